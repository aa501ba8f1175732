"""One model and its running requests: admits them, reads their prompts in chunks, writes a token for all at once.

A turn is one chunk of prompt reading and one token for every row that is ready, so a long prompt delays the others by a
chunk and not by its length. Rows that are ready stand before those that are still being read, because a batch is a
contiguous range of the cache. One thread calls this; nothing here waits.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from services.inference.domain.generation import Generation, Piece, common_prefix
from services.inference.domain.text import AnswerWriter, Decode
from services.inference.engines.attention import masks
from services.inference.engines.kv_cache import RowCache, Shape
from services.inference.engines.prefixes import SHORTEST, Prefix, PrefixStore
from services.inference.engines.sampling import Sampler, next_tokens, token_score

_SCORED_AT_ONCE = 32
"""Positions whose 262,144 scores are held in float32 at a time."""

Sink = Callable[[Piece | Exception], None]


@dataclass(frozen=True)
class LaneLimits:
    """What a model may use. Counts are in tokens but for `rows`."""

    rows: int = 16
    chunk: int = 512
    prefill: int = 1024
    cache: int = 16_384
    prefixes: int = 4_096


@dataclass
class Ticket:
    """A request on its way. Only the flag `cancelled` is written by another thread."""

    generation: Generation
    sink: Sink
    cancelled: bool = False
    arrived: float = field(default_factory=time.perf_counter)


@dataclass
class _Row:
    ticket: Ticket
    ids: list[int]
    writer: AnswerWriter
    sampler: Sampler
    cached: int = 0
    queued_s: float = 0.0
    prompt_length: int = field(init=False)

    def __post_init__(self) -> None:
        self.prompt_length = len(self.ids)

    @property
    def pending(self) -> int:
        """Tokens that the model has not read; one means that the row is ready to write."""
        return len(self.ids) - self.cached

    @property
    def final_length(self) -> int:
        return self.prompt_length + self.ticket.generation.max_tokens


@dataclass
class LaneCounters:
    """What a lane has done since it was made."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    completion_tokens: int = 0
    steps: int = 0
    busy_s: float = 0.0


class Lane:
    """The scheduler of one model."""

    def __init__(self, model: Any, decode: Decode, limits: LaneLimits) -> None:
        config = model.config
        self._model = model
        self._decode = decode
        self._limits = limits
        self._window: int | None = config.sliding_window
        self._cache = RowCache(
            Shape(config.num_hidden_layers, config.num_key_value_heads, config.head_dim, model.dtype)
        )
        self._prefixes = PrefixStore(limits.prefixes)
        self._rows: list[_Row] = []
        self._waiting: deque[Ticket] = deque()
        self.counters = LaneCounters()
        self.share = 0.0
        """Seconds of work, on a scale that all lanes of an engine share; the least served goes first."""

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._rows)

    @property
    def busy(self) -> bool:
        return bool(self._rows or self._waiting)

    def enqueue(self, ticket: Ticket) -> None:
        self._waiting.append(ticket)

    def turn(self) -> None:
        """Admit, read one chunk, write one token for each ready row."""
        started = time.perf_counter()
        self._drop_cancelled()
        self._admit()
        self._read_chunk()
        self._write_token()
        if not self._rows:
            self._cache.release()
        spent = time.perf_counter() - started
        self.counters.busy_s += spent
        self.share += spent

    def fail(self, error: Exception) -> None:
        """End every request with an error."""
        for ticket in [row.ticket for row in self._rows] + list(self._waiting):
            ticket.sink(error)
        self._rows.clear()
        self._waiting.clear()
        self._cache.release()

    def score(self, ids: Sequence[int]) -> list[float]:
        """Log-probability of each token after the first, in nats."""
        tokens = torch.tensor([list(ids)])
        positions = torch.arange(len(ids)).unsqueeze(0)
        cache = RowCache(self._cache.shape)
        hidden = self._forward(cache, slice(0, 1), tokens, positions)[0]
        scores: list[float] = []
        for start in range(0, len(ids) - 1, _SCORED_AT_ONCE):
            chosen = tokens[0, start + 1 : start + 1 + _SCORED_AT_ONCE, None]
            logits = self._model.lm_head(hidden[start : start + len(chosen)]).float()
            scores += (logits.gather(-1, chosen).squeeze(-1) - logits.logsumexp(-1)).tolist()
        return scores

    # Admission

    def _admit(self) -> None:
        admitted: list[_Row] = []
        for ticket in list(self._waiting):
            if not self._fits(ticket, admitted):
                break
            row = self._new_row(ticket)
            if self._better_later(row, admitted):
                continue
            self._waiting.remove(ticket)
            admitted.append(row)
        for row in sorted(admitted, key=lambda row: row.pending):  # rows of similar length are read together
            self._place(row)

    def _fits(self, ticket: Ticket, admitted: list[_Row]) -> bool:
        rows = self._rows + admitted
        if not rows:
            return True
        longest = max(
            len(ticket.generation.prompt) + ticket.generation.max_tokens, *(r.final_length for r in rows)
        )
        count = len(rows) + 1
        return count <= self._limits.rows and count * longest <= self._limits.cache

    def _new_row(self, ticket: Ticket) -> _Row:
        generation = ticket.generation
        row = _Row(
            ticket,
            list(generation.prompt),
            AnswerWriter(self._decode, generation),
            Sampler.of(generation.temperature, generation.top_p, generation.seed),
        )
        _, shared = self._prefixes.find(row.ids)
        row.cached = self._reusable(row, max([shared, *(self._shared(other, row) for other in self._rows)]))
        return row

    def _better_later(self, row: _Row, admitted: list[_Row]) -> bool:
        """Whether a prompt that is being read now begins like this one: after that, the beginning comes for free."""
        being_read = [other for other in self._rows if other.pending > 1] + admitted
        soon = max((common_prefix(other.ids, row.ids) for other in being_read), default=0)
        return soon >= row.cached + SHORTEST

    def _place(self, row: _Row) -> None:
        """Give the row a place in the cache and copy the known beginning of its prompt there."""
        index = len(self._rows)
        row.queued_s = time.perf_counter() - row.ticket.arrived
        self._cache.reserve(index + 1, row.prompt_length + 1)
        prefix, shared = self._prefixes.find(row.ids)
        donors = [(self._shared(other, row), at) for at, other in enumerate(self._rows)]
        best, at = max(donors, default=(0, 0))
        row.cached = self._reusable(row, max(best, shared))
        if row.cached and best >= shared:
            self._cache.copy(at, index, row.cached)
        elif row.cached and prefix is not None:
            self._cache.put(index, prefix.keys, prefix.values, row.cached)
        self.counters.prompt_tokens += row.prompt_length
        self.counters.reused_tokens += row.cached
        self._rows.append(row)

    @staticmethod
    def _shared(other: _Row, row: _Row) -> int:
        return min(common_prefix(other.ids, row.ids), other.cached)

    @staticmethod
    def _reusable(row: _Row, shared: int) -> int:
        """The last token of a prompt is always read: its output is the first token of the answer."""
        return 0 if shared < SHORTEST else min(shared, row.prompt_length - 1)

    # Work

    def _read_chunk(self) -> None:
        self._sort_ready_first()
        start = sum(row.pending == 1 for row in self._rows)
        group, width = self._group(self._rows[start:])
        if not group:
            return
        tokens = torch.zeros(len(group), width, dtype=torch.long)
        for index, row in enumerate(group):
            part = row.ids[row.cached : row.cached + width]
            tokens[index, : len(part)] = torch.tensor(part)
        first = torch.tensor([row.cached for row in group])
        positions = first.unsqueeze(1) + torch.arange(width)
        hidden = self._forward(self._cache, slice(start, start + len(group)), tokens, positions)
        last = [min(row.pending, width) - 1 for row in group]
        for row, index in zip(group, last, strict=True):
            row.cached += index + 1
        done = [index for index, row in enumerate(group) if row.pending == 0]
        if done:
            self._extend([group[i] for i in done], hidden[done, [last[i] for i in done]])

    def _group(self, unread: list[_Row]) -> tuple[list[_Row], int]:
        """The first rows that together fit into one reading pass, and its width."""
        group: list[_Row] = []
        width = 0
        for row in unread:
            wider = max(width, min(row.pending, self._limits.chunk))
            if group and wider * (len(group) + 1) > self._limits.prefill:
                break
            group.append(row)
            width = wider
        return group, width

    def _write_token(self) -> None:
        self._sort_ready_first()
        ready = [row for row in self._rows if row.pending == 1]
        if not ready:
            return
        tokens = torch.tensor([[row.ids[-1]] for row in ready])
        positions = torch.tensor([[row.cached] for row in ready])
        hidden = self._forward(self._cache, slice(0, len(ready)), tokens, positions)
        for row in ready:
            row.cached += 1
        self.counters.steps += 1
        self._extend(ready, hidden[:, -1])

    def _forward(
        self, cache: RowCache, rows: slice, tokens: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        width = cache.point_at(rows, positions)
        return self._model.model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=masks(positions, width, self._window),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state

    def _extend(self, rows: list[_Row], hidden: torch.Tensor) -> None:
        """Pick each row's next token from its last hidden state ([row, hidden]), send text, remove what is finished."""
        logits = self._model.lm_head(hidden)
        for index, token in enumerate(next_tokens(logits, [row.sampler for row in rows])):
            row, wanted = rows[index], rows[index].ticket.generation.logprobs
            self.counters.completion_tokens += 1
            row.ids.append(token)
            piece = row.writer.take(
                token, () if wanted is None else (token_score(logits[index], token, wanted),)
            )
            if piece.finish_reason:
                piece = replace(piece, queued_s=row.queued_s)
                self._remove(row)
            row.ticket.sink(piece)

    # Places in the cache

    def _drop_cancelled(self) -> None:
        self._waiting = deque(ticket for ticket in self._waiting if not ticket.cancelled)
        for row in [row for row in self._rows if row.ticket.cancelled]:
            self._remove(row)

    def _remove(self, row: _Row) -> None:
        index, last = self._rows.index(row), len(self._rows) - 1
        ids = row.ids[: row.cached]
        if self._prefixes.wants(ids):
            self._prefixes.add(Prefix(tuple(ids), *self._cache.take(index, row.cached)))
        if index != last:
            self._cache.copy(last, index, self._rows[last].cached)
            self._rows[index] = self._rows[last]
        self._rows.pop()

    def _sort_ready_first(self) -> None:
        rows = self._rows
        unread = [i for i, row in enumerate(rows) if row.pending > 1]
        ready = [i for i, row in enumerate(rows) if row.pending == 1]
        for left, right in zip(unread, reversed(ready), strict=False):
            if left > right:
                break
            self._cache.swap(left, right, max(rows[left].cached, rows[right].cached))
            rows[left], rows[right] = rows[right], rows[left]
