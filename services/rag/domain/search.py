"""What is searched for and how lists are merged: names, queries, filters, fusion, diversity, defaults of an index."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from libs.common.errors import InvalidInput, TooLarge
from model_training.contracts.indexes import Chunk
from model_training.contracts.retrieval import FilterValue, SearchOptions

Mode = Literal["hybrid", "dense", "bm25"]
Method = Literal["rrf", "dbsf"]

MAX_QUERY_CHARACTERS = 20_000
POOL_FACTOR = 4
"""Re-ranking and diversity choose from this many times the passages that are wanted."""

FILTER_FIELDS = ("id", "title_path", "functions", "package", "version", "path", "kind")
"""Fields of a passage that a search may ask for; each has an index in the store, made before the first passage."""


@dataclass(frozen=True)
class RagModel:
    """A model name of the form `rag:<index>@<model>`, taken apart."""

    index: str
    model: str


@dataclass(frozen=True)
class EmbedderStamp:
    """What made an index's vectors. An index is searched with exactly this, or not at all.

    `revision` is the SHA-256 of the weights; the prefixes are put before each text; texts are cut at `max_tokens`.
    """

    name: str
    revision: str
    dimension: int
    query_prefix: str
    document_prefix: str
    max_tokens: int


@dataclass(frozen=True)
class Found:
    """One passage found. `score` is comparable within one search only; `vector` is there when it was asked for."""

    chunk: Chunk
    score: float
    vector: Sequence[float] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class FusionRule:
    """How the two lists, of `depth` passages each, become one.

    `rrf`, reciprocal rank fusion: each list adds 1 / (k - 1 + (rank + 1) / weight) with ranks from 0. With weights of 1
    that is 1 / (k + rank). The weights differ a little because the engine orders equal scores by chance, and best by
    vector against best by words is such a tie: words win it.
    `dbsf`, distribution-based score fusion: each list adds (score - (mean - 3 sd)) / (6 sd); it has no weights.
    """

    k: int = 2
    dense_weight: float = 1.0
    bm25_weight: float = 1.01
    depth: int = 50
    method: Method = "rrf"


@dataclass(frozen=True)
class SearchPlan:
    """A search with every choice made. `diversity` 0 leaves the order alone; `rerank` names a cross-encoder."""

    mode: Mode = "hybrid"
    fusion: FusionRule = FusionRule()
    diversity: float = 0.0
    rerank: str | None = None

    def with_options(self, options: SearchOptions) -> SearchPlan:
        """This plan with what the options say in its place."""
        rule = self.fusion
        return SearchPlan(
            mode=options.mode or self.mode,
            fusion=FusionRule(
                k=options.rrf_k or rule.k,
                dense_weight=options.dense_weight or rule.dense_weight,
                bm25_weight=options.bm25_weight or rule.bm25_weight,
                depth=options.depth or rule.depth,
                method=options.fusion or rule.method,
            ),
            diversity=self.diversity if options.diversity is None else options.diversity,
            rerank=self.rerank if options.rerank is None else _named(options.rerank),
        )

    def as_options(self) -> SearchOptions:
        """The plan as it is stored with an index and shown to users."""
        rule = self.fusion
        return SearchOptions(
            mode=self.mode,
            fusion=rule.method,
            rrf_k=rule.k,
            dense_weight=rule.dense_weight,
            bm25_weight=rule.bm25_weight,
            depth=rule.depth,
            diversity=self.diversity,
            rerank=self.rerank or "none",
        )

    def pool(self, limit: int) -> int:
        """How many passages the store must find for `limit` to be returned."""
        return limit * POOL_FACTOR if self.diversity or self.rerank else limit


def _named(rerank: str) -> str | None:
    return None if rerank == "none" else rerank


def parse_model(name: str) -> RagModel:
    """Take `rag:<index>@<model>` apart.

    Raises:
        InvalidInput: the name has another form.
    """
    prefix, _, rest = name.partition(":")
    index, _, model = rest.partition("@")
    if prefix != "rag" or not index or not model:
        raise InvalidInput(
            f"{name!r} is not a retrieval model.",
            param="model",
            hint="Write rag:<index name or id>@<model>, for example rag:docs@gemma-3-270m.",
        )
    return RagModel(index, model)


def near_names(name: str, known: Iterable[str]) -> str:
    """A hint that lists the names closest to a name that is not there, or all of a few."""
    names = sorted(set(known))
    if not names:
        return "There is no index yet; create one with POST /v1/indexes."
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names[:5]
    return "Indexes that are there: " + ", ".join(near) + "."


def checked_query(text: str, param: str = "query") -> str:
    """The query without surrounding space.

    Raises:
        InvalidInput: nothing is left.
        TooLarge: it is longer than `MAX_QUERY_CHARACTERS`.
    """
    if len(text) > MAX_QUERY_CHARACTERS:
        raise TooLarge(
            f"The query has {len(text):,} characters; at most {MAX_QUERY_CHARACTERS:,} are searched for.",
            param=param,
            hint="Ask the question alone; long material belongs into an index.",
        )
    stripped = text.strip()
    if not stripped:
        raise InvalidInput("The query is empty.", param=param, hint="Ask for something in words.")
    return stripped


def checked_filter(wanted: Mapping[str, FilterValue]) -> dict[str, list[str]]:
    """The filter with a list of allowed values for each field.

    Raises:
        InvalidInput: a field is none that passages are indexed by.
    """
    for name in wanted:
        if name not in FILTER_FIELDS:
            near = difflib.get_close_matches(name, FILTER_FIELDS, n=1)
            meant = f"Did you mean {near[0]}? " if near else ""
            raise InvalidInput(
                f"Passages cannot be filtered by {name!r}.",
                param=f"filter.{name}",
                hint=f"{meant}Fields: {', '.join(FILTER_FIELDS)}.",
            )
    return {name: [value] if isinstance(value, str) else list(value) for name, value in wanted.items()}


def filter_payload(chunk: Chunk) -> dict[str, Any]:
    """The values of a passage under the names of `FILTER_FIELDS`; what it does not have is left out."""
    source = chunk.source
    values = {
        "id": chunk.id,
        "title_path": chunk.title_path,
        "functions": chunk.functions,
        "package": source.package,
        "version": source.version,
        "path": source.path,
        "kind": source.kind,
    }
    return {name: value for name, value in values.items() if value}


def diversify(found: Sequence[Found], diversity: float, limit: int) -> list[Found]:
    """Maximal marginal relevance: the next passage has the highest (1 - d) relevance - d similarity to one already taken.

    Relevance is the score, scaled to 0..1 over the candidates, so that it works for cosines, BM25 and fused ranks alike;
    similarity is the cosine of the unit vectors. Source: Carbonell and Goldstein, SIGIR 1998.

    Args:
        found: candidates with vectors, best first.
    """
    if not found:
        return []
    low, high = found[-1].score, found[0].score
    relevance = [(hit.score - low) / (high - low) if high > low else 1.0 for hit in found]
    nearest = [0.0] * len(found)
    left = list(range(len(found)))
    taken: list[int] = []
    while left and len(taken) < limit:
        best = max(left, key=lambda i: (1 - diversity) * relevance[i] - diversity * nearest[i])
        left.remove(best)
        taken.append(best)
        for i in left:
            nearest[i] = max(nearest[i], _dot(found[i].vector or (), found[best].vector or ()))
    return [found[i] for i in taken]


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))
