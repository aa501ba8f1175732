"""Retrieval indexes: passages, searches and what they find."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from model_training.contracts.base import WHOLE, Metadata, Reference, Reply, Wire
from model_training.contracts.jobs import JobError, JobProgress, JobState
from model_training.contracts.retrieval import FilterValue, SearchOptions


class Source(Wire):
    """Where a passage, a training row or an evaluation item comes from. Lines count from 1."""

    package: str | None = None
    version: str | None = None
    path: str | None = None
    line_start: int | None = None
    line_end: int | None = None
    kind: str | None = Field(
        default=None, description="docstring, doctest, test, readme, call_site, hand_written, …"
    )
    url: str | None = None


class Chunk(Wire):
    """One passage for retrieval."""

    id: str = Field(min_length=1, max_length=200)
    title: str = Field(max_length=500)
    text: str = Field(min_length=1, max_length=20_000)
    functions: list[str] = []
    title_path: list[str] = Field(default=[], description="Headings or names above it, outermost first.")
    source: Source = Source()
    sha256: str | None = Field(
        default=None, description="Hash of title and text; indexing fills it in, so a change is seen."
    )


class IndexCreate(Wire):
    """Build an index from uploaded files of purpose `chunks`.

    A name that is taken gets its next version: passages whose text is unchanged keep their vectors, and the name leads
    to the new version once it is complete.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {
                    "properties": {
                        "files": {"minItems": 1},
                        "base": {"type": "null"},
                        "remove": {"maxItems": 0},
                    }
                },
                {"properties": {"base": {"type": "string"}}, "required": ["base"]},
            ]
        }
    )

    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*$", examples=["docs"])
    files: list[Reference] = Field(max_length=1000, examples=[["file_01jabc"]])
    embedder: Reference = Field(
        default="all-minilm-l6-v2", description="`nomic-embed-text-v1.5` or `embeddinggemma-300m` with a GPU."
    )
    chunker: str = Field(
        default="as uploaded", max_length=200, description="What cut the passages; kept in the index's stamp."
    )
    base: Reference | None = Field(
        default=None,
        description="Start from this index's passages: those of `files` are added or replaced by id.",
    )
    remove: list[str] = Field(
        default=[], max_length=10_000, description="Ids or source paths of passages of `base` that go."
    )
    metadata: Metadata = {}

    @model_validator(mode="after")
    def _has_passages(self) -> Self:
        if self.base is None and not self.files:
            raise ValueError("files: name at least one uploaded file of purpose chunks")
        if self.base is None and self.remove:
            raise ValueError("remove: passages are removed from a base; name it")
        return self


class Index(Reply):
    """An index. `id` is also the id of the job that builds it."""

    id: str
    object: Literal["index"] = "index"
    name: str
    state: JobState
    created_at: datetime
    chunks: int = 0
    embedder: str
    dimension: int | None = None
    search: SearchOptions | None = Field(
        default=None, description="Tuned defaults; absent before `mt rag tune`."
    )
    progress: JobProgress = JobProgress()
    error: JobError | None = None


class QueryRequest(SearchOptions):
    """Search an index. What is left out of the options is the index's own default."""

    query: str = Field(min_length=1, max_length=20_000, examples=["split a list into pieces"])
    limit: Annotated[int, Field(ge=1, le=100), WHOLE] = 5
    filter: dict[str, FilterValue] = Field(
        default={},
        max_length=10,
        description="Only passages with these values.",
        examples=[{"package": "toolz"}],
    )


class Passages(Reply):
    """A stretch of an index's passages in the order in which they were stored. `total` counts all, wanted or not."""

    index: str
    total: int
    offset: int
    has_more: bool
    data: list[Chunk]


class QueryHit(Reply):
    """One passage found, best first. `score` depends on the mode and is comparable within one answer only."""

    rank: int
    score: float
    chunk: Chunk


class QueryReply(Reply):
    """What a search found, best first."""

    index: str
    hits: list[QueryHit]
