"""The use cases: find, list and delete indexes, search them, and answer a chat request with passages in its prompt."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from anyio import to_thread
from prometheus_client import Counter, Histogram

from libs.common.db.engine import Database
from libs.common.db.tables import IndexRow
from libs.common.errors import Conflict, NotFound
from model_training.contracts.base import Deleted, Page
from model_training.contracts.chat import ChatMessage, ChatRequest, Retrieval
from model_training.contracts.indexes import Index, QueryHit, QueryReply, QueryRequest
from model_training.contracts.jobs import FINAL_STATES, JobState
from services.rag import domain, repository
from services.rag.domain import Found, FusionRule, Mode, Packing
from services.rag.ports import Embedder, Inference, Search, VectorStore

log = structlog.get_logger(__name__)

SEARCH_SECONDS = Histogram(
    "mt_rag_search_seconds",
    "Time of a search, the question's embedding included.",
    ["mode"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
SEARCH_HITS = Histogram(
    "mt_rag_search_hits", "Passages found by a search.", ["mode"], buckets=(0, 1, 3, 5, 10, 50)
)
PACKED = Histogram("mt_rag_packed_passages", "Passages put into a prompt.", buckets=(0, 1, 2, 3, 5, 10))
CONTEXT_TOKENS = Histogram(
    "mt_rag_context_tokens",
    "Tokens that passages cost in a prompt.",
    buckets=(0, 64, 128, 256, 512, 1024, 4096),
)
DROPPED = Counter("mt_rag_dropped_passages_total", "Candidates that did not go into the prompt.")


class Indexes:
    """Indexes of a project and searches in them."""

    def __init__(
        self, database: Database, store: VectorStore, embedder: Embedder, fusion: FusionRule | None = None
    ) -> None:
        self._database = database
        self._store = store
        self._embedder = embedder
        self._fusion = fusion or FusionRule()

    def get(self, project_id: str | None, reference: str) -> Index:
        """An index by id or name, also one that is not built yet.

        Raises:
            NotFound: there is none.
        """
        with self._database.session() as session:
            built = repository.find_index(session, project_id, reference)
            job = repository.find_job(session, project_id, built.id if built else reference)
            if job is None or (built is None and job.state == JobState.SUCCEEDED.value):
                raise _no_index(reference, repository.index_names(session, project_id))
            return repository.describe(job, built)

    def list(self, project_id: str | None, after: str | None, limit: int) -> Page[Index]:
        """Indexes, newest first."""
        with self._database.session() as session:
            found = repository.list_indexes(session, project_id, after, limit + 1)
        data = found[:limit]
        return Page[Index](
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=len(found) > limit,
        )

    def delete(self, project_id: str | None, index_id: str) -> Deleted:
        """Delete an index and free its space.

        Raises:
            NotFound: there is none with this id.
            Conflict: it is still being built.
        """
        with self._database.session() as session:
            job = repository.find_job(session, project_id, index_id)
            index = repository.get_index(session, index_id)
            if job is None or (index is None and job.state == JobState.SUCCEEDED.value):
                raise _no_index(index_id, repository.index_names(session, project_id))
            if JobState(job.state) not in FINAL_STATES:
                raise Conflict(
                    f"The index {index_id} is being built ({job.state}).",
                    hint=f"Cancel its job first: POST /v1/jobs/{index_id}/cancel.",
                )
            if index is None:
                raise Conflict(
                    f"The index {index_id} was never built ({job.state}); there is nothing to delete."
                )
            repository.delete_index(session, index)
        self._store.drop(index_id)
        return Deleted(id=index_id, object="index")

    def query(self, project_id: str | None, reference: str, request: QueryRequest) -> QueryReply:
        """Search an index by id or name.

        Raises:
            NotFound: there is no such index, or it is not built.
            InvalidInput: the query is empty.
            Conflict: the index was made by another embedder.
            Unavailable: the embedder is still loading.
        """
        index = self.resolve(project_id, reference)
        found = self.search(index.id, domain.checked_query(request.query), request.mode, request.limit)
        hits = [
            QueryHit(rank=rank, score=hit.score, chunk=hit.chunk) for rank, hit in enumerate(found, start=1)
        ]
        return QueryReply(index=index.id, hits=hits)

    def resolve(self, project_id: str | None, reference: str) -> IndexRow:
        """The built index of an id, or the newest of a name.

        Raises:
            NotFound: there is none; the error names what comes near, or says that it is still being built.
        """
        with self._database.session() as session:
            index = repository.find_index(session, project_id, reference)
            if index is not None:
                return index
            job = repository.find_job(session, project_id, reference)
            if job is not None and job.state != JobState.SUCCEEDED.value:
                raise NotFound(
                    f"The index {reference} cannot be searched; its job is {job.state}.",
                    hint=f"See GET /v1/jobs/{reference}.",
                )
            raise _no_index(reference, repository.index_names(session, project_id))

    def search(self, index_id: str, text: str, mode: Mode, limit: int) -> list[Found]:
        """Search a built index; `text` is a checked query. Raises as `query` does."""
        started = time.perf_counter()
        vector = None if mode == "bm25" else self._embed(index_id, text)
        found = self._store.search(index_id, Search(text, vector, mode, limit, self._fusion))
        SEARCH_SECONDS.labels(mode).observe(time.perf_counter() - started)
        SEARCH_HITS.labels(mode).observe(len(found))
        return found

    def _embed(self, index_id: str, text: str) -> list[float]:
        made_by = self._store.stamp(index_id)["embedder"]
        if made_by != asdict(self._embedder.stamp):
            raise Conflict(
                f"The index {index_id} was made by {made_by['name']} (revision {made_by['revision'][:12]}), this service "
                f"embeds with {self._embedder.stamp.name} (revision {self._embedder.stamp.revision[:12]}).",
                hint="Build the index again.",
            )
        return self._embedder.embed_query(text)


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
    sources: list[dict[str, Any]]
    packing: Packing
    prompt: str

    def report(self, *, with_prompt: bool) -> dict[str, Any]:
        """What retrieval adds to an answer."""
        report: dict[str, Any] = {"sources": self.sources, "packing": self.packing.as_dict()}
        return report | {"prompt": self.prompt} if with_prompt else report


class Answers:
    """Answers chat requests for `rag:<index>@<model>`."""

    def __init__(self, indexes: Indexes, inference: Inference, rule: ContextRule | None = None) -> None:
        self._indexes = indexes
        self._inference = inference
        self._rule = rule or ContextRule()
        self._sizes: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def answer(self, project_id: str | None, request: ChatRequest) -> dict[str, Any]:
        """A whole answer with `sources`, `packing` and, when asked, `prompt`.

        Raises:
            PlatformError: what is wrong with the request, the index or the served model.
        """
        prepared = await self._prepare(project_id, request)
        reply = await self._inference.complete(prepared.body)
        return reply | prepared.report(with_prompt=request.return_prompt) | {"model": request.model}

    async def stream(self, project_id: str | None, request: ChatRequest) -> AsyncIterator[dict[str, Any]]:
        """The answer's pieces; the first carries `sources` and `packing`. Awaiting this raises what `answer` raises."""
        prepared = await self._prepare(project_id, request)
        pieces = await self._inference.stream(prepared.body)
        return _annotated(pieces, request.model, prepared.report(with_prompt=request.return_prompt))

    async def _prepare(self, project_id: str | None, request: ChatRequest) -> Prepared:
        named = domain.parse_model(request.model)
        wanted = request.retrieval or Retrieval()
        last = domain.last_question(request.messages)
        question = domain.checked_query(request.messages[last].content, param="messages")
        passages = wanted.passages or self._rule.passages
        found = await to_thread.run_sync(
            self._search, project_id, named.index, question, wanted.mode or "hybrid", passages
        )
        output_tokens = request.max_completion_tokens or request.max_tokens or self._rule.output_tokens
        budget = self._rule.context_tokens if wanted.context_tokens is None else wanted.context_tokens
        packed, packing, prompt = await self._pack(
            named.model,
            request.messages,
            found,
            budget=budget,
            output_tokens=output_tokens,
            passages=passages,
        )
        messages = domain.with_context(request.messages, [found[position].chunk for position in packed])
        body = request.model_dump(exclude_none=True, exclude={"retrieval"})
        body |= {"model": named.model, "messages": [message.model_dump() for message in messages]}
        return Prepared(body, list(domain.sources_of(found, packed)), packing, prompt)

    def _search(
        self, project_id: str | None, reference: str, question: str, mode: Mode, passages: int
    ) -> list[Found]:
        index = self._indexes.resolve(project_id, reference)
        return self._indexes.search(index.id, question, mode, max(passages, self._rule.candidates))

    async def _pack(
        self,
        model: str,
        messages: Sequence[ChatMessage],
        found: Sequence[Found],
        *,
        budget: int,
        output_tokens: int,
        passages: int,
    ) -> tuple[list[int], Packing, str]:
        """Choose by remembered sizes, then let the served model count the whole prompt and drop until it fits."""
        bare = await self._inference.count(model, messages)
        budget = domain.context_budget(budget, bare.window, bare.count, output_tokens)
        sizes = [await self._size(model, domain.passage_block(1, hit.chunk)) for hit in found]
        packed = domain.choose(sizes, budget, passages)
        prompt, tokens = bare.text, 0
        while packed:
            full = await self._inference.count(
                model, domain.with_context(messages, [found[position].chunk for position in packed])
            )
            prompt, tokens = full.text, full.count - bare.count
            if tokens <= budget:
                break
            packed.pop()
            prompt, tokens = bare.text, 0
        dropped = [position for position in range(len(found)) if position not in packed]
        packing = Packing(
            tuple(found[position].chunk.id for position in packed),
            tuple(found[position].chunk.id for position in dropped),
            tokens,
            budget,
        )
        PACKED.observe(len(packed))
        CONTEXT_TOKENS.observe(tokens)
        DROPPED.inc(len(dropped))
        return packed, packing, prompt

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


def _no_index(reference: str, names: Sequence[str]) -> NotFound:
    return NotFound(
        f"There is no index {reference!r}.", param="index", hint=domain.near_names(reference, names)
    )
