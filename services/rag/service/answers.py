"""Answering a chat request with passages in its prompt, and checking what the answer cites."""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anyio import to_thread
from prometheus_client import Counter, Histogram

from model_training.contracts.chat import ChatMessage, ChatRequest, Retrieval
from model_training.contracts.indexes import Chunk
from services.rag.domain import citations, packing, search
from services.rag.domain.citations import NOT_IN_SOURCES, CitationReport, Terms
from services.rag.domain.packing import Packing
from services.rag.domain.passages import document_text
from services.rag.domain.search import Found
from services.rag.ports import Embedder, Inference
from services.rag.service.indexes import Indexes, default_plan

PACKED = Histogram("mt_rag_packed_passages", "Passages put into a prompt.", buckets=(0, 1, 2, 3, 5, 10))
CONTEXT_TOKENS = Histogram(
    "mt_rag_context_tokens",
    "Tokens that passages cost in a prompt.",
    buckets=(0, 64, 128, 256, 512, 1024, 4096),
)
DROPPED = Counter("mt_rag_dropped_passages_total", "Candidates that did not go into the prompt.")
CITATIONS = Counter("mt_rag_citations_total", "Citations in answers, by what the check found.", ["outcome"])
UNANSWERED = Counter("mt_rag_not_in_sources_total", "Answers that say that the sources do not tell.")


@dataclass(frozen=True)
class ContextRule:
    """Defaults of packing: tokens and passages at most, candidates to choose from, tokens kept for the answer."""

    context_tokens: int = 384
    passages: int = 3
    candidates: int = 8
    output_tokens: int = 256


@dataclass(frozen=True)
class Prepared:
    """A chat request with its passages in place, ready for the served model."""

    body: dict[str, Any]
    index_id: str
    chunks: list[Chunk]
    sources: list[dict[str, Any]]
    packing: Packing
    prompt: str
    cite: bool

    def report(self, *, with_prompt: bool) -> dict[str, Any]:
        """What retrieval adds to an answer."""
        report: dict[str, Any] = {"sources": self.sources, "packing": self.packing.as_dict()}
        return report | {"prompt": self.prompt} if with_prompt else report

    @property
    def unanswerable(self) -> bool:
        """Whether an answer from the sources alone was asked for and there is no source."""
        return self.cite and not self.chunks


class Answers:
    """Answers chat requests for `rag:<index>@<model>`."""

    def __init__(
        self, indexes: Indexes, inference: Inference, terms: Terms, rule: ContextRule | None = None
    ) -> None:
        self._indexes = indexes
        self._inference = inference
        self._terms = terms
        self._rule = rule or ContextRule()
        self._sizes: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def answer(self, project_id: str | None, request: ChatRequest) -> dict[str, Any]:
        """A whole answer with `sources`, `packing` and, when asked, `citations` and `prompt`.

        Raises:
            PlatformError: what is wrong with the request, the index or the served model.
        """
        prepared = await self._prepare(project_id, request)
        reply = _refusal() if prepared.unanswerable else await self._inference.complete(prepared.body)
        reply |= prepared.report(with_prompt=request.return_prompt) | {"model": request.model}
        if not prepared.cite:
            return reply
        choice = reply["choices"][0]
        checked = await to_thread.run_sync(self._check, choice["message"]["content"], prepared)
        message = choice["message"] | {"content": checked.text}
        choices = [choice | {"message": message}, *reply["choices"][1:]]
        return reply | {"choices": choices, "citations": checked.as_dict()}

    async def stream(self, project_id: str | None, request: ChatRequest) -> AsyncIterator[dict[str, Any]]:
        """The answer's pieces. The first carries `sources` and `packing`; where citations are asked for, one more piece
        at the end carries `citations` (what was sent cannot be taken back: its text still has every mark).

        Awaiting this raises what `answer` raises.
        """
        prepared = await self._prepare(project_id, request)
        pieces = _refused() if prepared.unanswerable else await self._inference.stream(prepared.body)
        pieces = _annotated(pieces, request.model, prepared.report(with_prompt=request.return_prompt))
        return self._with_citations(pieces, prepared) if prepared.cite else pieces

    async def _with_citations(
        self, pieces: AsyncIterator[dict[str, Any]], prepared: Prepared
    ) -> AsyncIterator[dict[str, Any]]:
        said: list[str] = []
        piece: dict[str, Any] = {}
        async for piece in pieces:
            said += [choice.get("delta", {}).get("content") or "" for choice in piece.get("choices", [])]
            yield piece
        checked = await to_thread.run_sync(self._check, "".join(said), prepared)
        kept = {name: piece[name] for name in ("id", "object", "created", "model") if name in piece}
        yield kept | {"choices": [], "citations": checked.as_dict()}

    def _check(self, answer: str, prepared: Prepared) -> CitationReport:
        numbered = dict(enumerate(prepared.chunks, start=1))
        similarity = _Cosines(self._indexes.embedder(prepared.index_id))
        checked = citations.check_citations(answer, numbered, self._terms, similarity)
        for one in checked.cited:
            CITATIONS.labels("supported" if one.supported else "unsupported").inc()
        CITATIONS.labels("rejected").inc(len(checked.rejected))
        if not checked.in_sources:
            UNANSWERED.inc()
        return checked

    async def _prepare(self, project_id: str | None, request: ChatRequest) -> Prepared:
        named = search.parse_model(request.model)
        wanted = request.retrieval or Retrieval()
        last = packing.last_question(request.messages)
        question = search.checked_query(request.messages[last].content, param="messages")
        passages = wanted.passages or self._rule.passages
        index_id, found = await to_thread.run_sync(
            self._search, project_id, named.index, question, wanted, passages
        )
        output_tokens = request.max_completion_tokens or request.max_tokens or self._rule.output_tokens
        instruction = citations.INSTRUCTION if wanted.citations else packing.INSTRUCTION
        packed, packing_report, prompt = await self._pack(
            named.model,
            request.messages,
            found,
            budget=self._rule.context_tokens if wanted.context_tokens is None else wanted.context_tokens,
            output_tokens=output_tokens,
            passages=passages,
            instruction=instruction,
        )
        chunks = [found[position].chunk for position in packed]
        messages = packing.with_context(request.messages, chunks, instruction)
        body = request.model_dump(exclude_none=True, exclude={"retrieval"})
        body |= {"model": named.model, "messages": [message.model_dump() for message in messages]}
        sources = list(packing.sources_of(found, packed))
        return Prepared(body, index_id, chunks, sources, packing_report, prompt, wanted.citations)

    def _search(
        self, project_id: str | None, reference: str, question: str, wanted: Retrieval, passages: int
    ) -> tuple[str, list[Found]]:
        index = self._indexes.resolve(project_id, reference)
        plan = default_plan(index).with_options(wanted)
        allowed = search.checked_filter(wanted.filter)
        limit = max(passages, self._rule.candidates)
        return index.id, self._indexes.search(index.id, question, plan, limit, allowed)

    async def _pack(
        self,
        model: str,
        messages: Sequence[ChatMessage],
        found: Sequence[Found],
        *,
        budget: int,
        output_tokens: int,
        passages: int,
        instruction: str,
    ) -> tuple[list[int], Packing, str]:
        """Choose by remembered sizes, then let the served model count the whole prompt and drop until it fits."""
        bare = await self._inference.count(model, messages)
        budget = packing.context_budget(budget, bare.window, bare.count, output_tokens)
        sizes = [await self._size(model, packing.passage_block(1, hit.chunk)) for hit in found]
        packed = packing.choose(sizes, budget, passages)
        prompt, tokens = bare.text, 0
        while packed:
            chunks = [found[position].chunk for position in packed]
            full = await self._inference.count(model, packing.with_context(messages, chunks, instruction))
            prompt, tokens = full.text, full.count - bare.count
            if tokens <= budget:
                break
            packed.pop()
            prompt, tokens = bare.text, 0
        dropped = [position for position in range(len(found)) if position not in packed]
        report = Packing(
            tuple(found[position].chunk.id for position in packed),
            tuple(found[position].chunk.id for position in dropped),
            tokens,
            budget,
        )
        PACKED.observe(len(packed))
        CONTEXT_TOKENS.observe(tokens)
        DROPPED.inc(len(dropped))
        return packed, report, prompt

    async def _size(self, model: str, block: str) -> int:
        """Tokens of a passage on its own, remembered: the same passages come up again and again."""
        key = (model, block)
        if key not in self._sizes:
            self._sizes[key] = await self._inference.count_text(model, block)
            if len(self._sizes) > 4096:
                self._sizes.popitem(last=False)
        return self._sizes[key]


async def _annotated(
    pieces: AsyncIterator[dict[str, Any]], model: str, report: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    first = report
    async for piece in pieces:
        yield piece | {"model": model} | first
        first = {}


class _Cosines:
    """The cosine of a sentence and a passage, each text embedded once."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, Any] = {}

    def __call__(self, sentence: str, chunk: Chunk) -> float:
        return float(np.dot(self._vector(sentence), self._vector(document_text(chunk))))

    def _vector(self, text: str) -> Any:
        if text not in self._known:
            self._known[text] = self._embedder.embed_documents([text])[0]
        return self._known[text]


def _refusal() -> dict[str, Any]:
    """The answer where there is nothing to answer from; no model is asked."""
    message = {"role": "assistant", "content": NOT_IN_SOURCES}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


async def _refused() -> AsyncIterator[dict[str, Any]]:
    """`_refusal` in one piece."""
    delta = {"role": "assistant", "content": NOT_IN_SOURCES}
    choice = {"index": 0, "delta": delta, "finish_reason": "stop"}
    yield _refusal() | {"object": "chat.completion.chunk", "choices": [choice]}
