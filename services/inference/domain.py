"""Records and rules of generation: what is asked of an engine, what comes back, where a text stops.

No model, no tokenizer library and no web framework is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from libs.common.errors import InvalidInput, Overloaded, PlatformError

FinishReason = Literal["stop", "length"]
Decode = Callable[[Sequence[int]], str]
"""Token ids to text; special tokens are left out, an unfinished character shows as U+FFFD."""

REPLACEMENT = "�"


class ContextTooLong(InvalidInput):
    """The prompt does not fit into the model's window"""

    code = "context_length_exceeded"


class QueueFull(Overloaded):
    """Too many requests are waiting for the model"""

    code = "queue_full"


class ModelRefused(PlatformError):
    """The adapter cannot be served"""

    status, code, blame = 409, "model_refused", "system"


@dataclass(frozen=True)
class ServedModel:
    """A model as an engine loads it: a base directory and, for a tuned one, the adapter to merge into it."""

    name: str
    base: str
    base_path: Path
    adapter_path: Path | None = None


@dataclass(frozen=True)
class Generation:
    """One request to an engine. `stop_ids` end the answer and are not part of it; `stop` are texts that do the same."""

    model: str
    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Piece:
    """A part of an answer. The last one has a finish reason. `completion_tokens` counts all tokens so far."""

    text: str
    completion_tokens: int
    finish_reason: FinishReason | None = None


def check_window(prompt_tokens: int, max_tokens: int | None, window: int, default_max: int) -> int:
    """How many tokens may be written.

    Raises:
        ContextTooLong: the prompt fills the window, or prompt and wanted answer together exceed it.
    """
    if prompt_tokens >= window:
        raise ContextTooLong(
            f"The prompt has {prompt_tokens} tokens and the model's window {window}; at least one must stay free.",
            param="messages",
            hint="Shorten the prompt, or retrieve fewer chunks.",
        )
    if max_tokens is not None and prompt_tokens + max_tokens > window:
        raise ContextTooLong(
            f"The prompt has {prompt_tokens} tokens and max_tokens is {max_tokens}; "
            f"together they exceed the model's window of {window}.",
            param="max_tokens",
            hint=f"Ask for at most {window - prompt_tokens} tokens.",
        )
    return max_tokens or min(default_max, window - prompt_tokens)


class TextAssembler:
    """Turns a growing list of tokens into text that can be sent at once.

    Laws: the pieces joined are the text of all tokens, cut before the first stop text; a piece never ends inside a
    character; nothing that could still become part of a stop text is sent.
    """

    def __init__(self, decode: Decode, stop: Sequence[str]) -> None:
        self._decode = decode
        self._stop = tuple(text for text in stop if text)
        self._pending: list[int] = []
        self._held = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """Text that the token sets free; empty when it must wait. Sets `stopped` at a stop text."""
        self._pending.append(token)
        text = self._decode(self._pending)
        if text.endswith(REPLACEMENT) and len(self._pending) < 8:  # a character takes four bytes at most
            return ""
        self._pending = []
        return self._release(text, final=False)

    def finish(self) -> str:
        """What was held back, when no more tokens come."""
        text = self._decode(self._pending) if self._pending else ""
        self._pending = []
        return "" if self.stopped else self._release(text, final=True)

    def _release(self, text: str, *, final: bool) -> str:
        self._held += text
        cuts = [at for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if cuts:
            self.stopped = True
            free, self._held = self._held[: min(cuts)], ""
            return free
        keep = 0 if final else max((_overlap(self._held, stop) for stop in self._stop), default=0)
        cut = len(self._held) - keep
        free, self._held = self._held[:cut], self._held[cut:]
        return free


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with, whole `stop` excluded."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading items two sequences share."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))
