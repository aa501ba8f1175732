"""Retrieval indexes: passages, searches and what they find."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from model_training.contracts.base import WHOLE, Metadata, Reference, Reply, Wire
from model_training.contracts.jobs import JobError, JobProgress, JobState


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
    source: Source = Source()


class IndexCreate(Wire):
    """Build an index from uploaded files of purpose `chunks`."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*$", examples=["docs"])
    files: list[Reference] = Field(min_length=1, max_length=1000, examples=[["file_01jabc"]])
    embedder: Reference = "all-minilm-l6-v2"
    metadata: Metadata = {}


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
    progress: JobProgress = JobProgress()
    error: JobError | None = None


class QueryRequest(Wire):
    """Search an index."""

    query: str = Field(min_length=1, max_length=20_000, examples=["split a list into pieces"])
    limit: Annotated[int, Field(ge=1, le=100), WHOLE] = 5
    mode: Literal["hybrid", "dense", "bm25"] = "hybrid"


class QueryHit(Reply):
    """One passage found, best first. `score` depends on the mode and is comparable within one answer only."""

    rank: int
    score: float
    chunk: Chunk


class QueryReply(Reply):
    """What a search found, best first."""

    index: str
    hits: list[QueryHit]
