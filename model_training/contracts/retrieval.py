"""How to search, and how well a search finds: options, labelled questions, metrics, tuning, snapshots."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from model_training.contracts.base import WHOLE, Flag, Number, Reference, Reply, Wire

Value = Annotated[str, Field(min_length=1, max_length=500)]
FilterValue = Value | Annotated[list[Value], Field(min_length=1, max_length=100)]
Weight = Annotated[Number, Field(gt=0, le=100)]


class SearchOptions(Wire):
    """How a search is done; what is left out is the index's own default, which `mt rag tune` chooses by measurement."""

    mode: Literal["hybrid", "dense", "bm25"] | None = None
    fusion: Literal["rrf", "dbsf"] | None = Field(
        default=None, description="How hybrid merges its lists: by rank, or by scores' distribution."
    )
    rrf_k: Annotated[int, Field(ge=1, le=1000), WHOLE] | None = Field(
        default=None, description="Constant of reciprocal rank fusion; the paper's 60 is 61 here."
    )
    dense_weight: Weight | None = None
    bm25_weight: Weight | None = None
    depth: Annotated[int, Field(ge=1, le=1000), WHOLE] | None = Field(
        default=None, description="Passages of each list that are merged."
    )
    diversity: Annotated[Number, Field(ge=0, le=1)] | None = Field(
        default=None, description="0 keeps the order; above, passages alike to better ones move back (MMR)."
    )
    rerank: Reference | None = Field(
        default=None, description="A cross-encoder that orders the best again, or `none`."
    )


class LabelledQuestion(Wire):
    """A question and what it should find: passages by id, or functions that any passage about them satisfies."""

    id: str = Field(min_length=1, max_length=200)
    question: str = Field(min_length=1, max_length=20_000)
    passages: list[Value] = Field(default=[], max_length=100)
    functions: list[Value] = Field(default=[], max_length=100)
    kind: str = Field(
        default="all", max_length=100, description="Kind of question; figures are given by kind."
    )


Questions = Annotated[list[LabelledQuestion], Field(min_length=1, max_length=2000)]


class RetrievalEvaluate(SearchOptions):
    """Measure a search on labelled questions."""

    questions: Questions
    k: Annotated[int, Field(ge=1, le=100), WHOLE] = 10


class RetrievalTune(Wire):
    """Choose an index's defaults on labelled questions."""

    questions: Questions
    metric: Literal["ndcg", "recall", "mrr"] = "ndcg"
    k: Annotated[int, Field(ge=1, le=100), WHOLE] = 5
    store: Flag = Field(default=True, description="Make the outcome the index's default.")


class Estimate(Reply):
    """A mean with its 95 % interval; questions about the same thing count as one cluster."""

    estimate: float
    low: float
    high: float


class RetrievalMetrics(Reply):
    """Figures of one way to search on one set of questions. Keys of `recall` are depths."""

    questions: int
    recall: dict[str, Estimate]
    mrr: Estimate
    ndcg: Estimate


class RetrievalReport(Reply):
    """How well a search finds what it should. `unlabelled` questions name nothing that the index holds."""

    index: str
    options: SearchOptions
    k: int
    overall: RetrievalMetrics
    by_kind: dict[str, RetrievalMetrics]
    misses: list[str] = Field(
        default=[], description="Ids of the questions whose passage is not among the best k."
    )
    unlabelled: list[str] = []


class TuneReport(Reply):
    """What was tried and what came of it. Chosen on one half of the questions, measured on the other."""

    index: str
    metric: str
    k: int
    chosen: SearchOptions
    tried: int
    held_out: int
    default: Estimate
    tuned: Estimate
    difference: Estimate = Field(description="Tuned less default, paired, on the held-out half.")
    stored: bool
    reason: str
    best: list[dict[str, Any]] = Field(default=[], description="The best tried, on the half that chose.")


class SnapshotReply(Reply):
    """A snapshot on the service's disk. It holds passages and vectors, not an engine's files: any store restores it."""

    index: str
    name: str
    bytes: int
    sha256: str
    chunks: int


class RestoreRequest(Wire):
    """Put an index back from a snapshot."""

    snapshot: Reference
