"""Jobs of every kind: states, progress, errors and events."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from model_training.contracts.base import Reply
from model_training.contracts.problems import Blame, RowFault


class JobKind(StrEnum):
    """What a job does. The Celery queue of a kind has the kind's name."""

    TRAIN = "train"
    INDEX = "index"
    EVALUATE = "evaluate"
    COMPARE = "compare"
    PIPELINE = "pipeline"
    SWEEP = "sweep"


DRIVEN = frozenset({JobKind.PIPELINE, JobKind.SWEEP})
"""Kinds that consist of other jobs: no worker takes them, the keeper's drivers move them on."""


class JobState(StrEnum):
    """Where a job stands. `libs.common.jobs.transitions` lists the legal changes and is the one place that makes them."""

    VALIDATING_FILES = "validating_files"
    """Accepted; its files are being checked before it may queue."""
    QUEUED = "queued"
    """Waiting for a worker, for the first time or again after its worker was lost."""
    RUNNING = "running"
    """A worker holds its lease and works."""
    PAUSING = "pausing"
    """Asked to pause; the worker is writing a checkpoint."""
    PAUSED = "paused"
    """Stopped on request; resuming queues it again."""
    CANCELLING = "cancelling"
    """Asked to cancel; the worker is stopping."""
    CANCELLED = "cancelled"
    """Stopped on request, for good. What was committed stays."""
    SUCCEEDED = "succeeded"
    """Done, with a result."""
    FAILED = "failed"
    """Ended with an error that says why and who can mend it."""


FINAL_STATES = frozenset({JobState.CANCELLED, JobState.SUCCEEDED, JobState.FAILED})
"""States that a job never leaves."""


class JobProgress(Reply):
    """How far a job is. `fraction` runs from 0 to 1; `eta_s` is in seconds and None until it can be estimated."""

    fraction: float = 0.0
    step: int = 0
    total: int = 0
    message: str = ""
    eta_s: float | None = None


class JobError(Reply):
    """Why a job failed, who can mend it, and how."""

    code: str
    message: str
    param: str | None = None
    blame: Blame = "system"
    hint: str | None = None
    rows: list[RowFault] | None = None


class Job(Reply):
    """A job of any kind."""

    id: str
    object: Literal["job"] = "job"
    kind: JobKind
    state: JobState
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: JobProgress = JobProgress()
    attempt: int = 0
    max_attempts: int = 3
    queue_position: int | None = None
    error: JobError | None = None
    spec: dict[str, Any] = {}
    result: dict[str, Any] | None = None
    metadata: dict[str, str] = {}


class JobEvent(Reply):
    """One line of a job's history. `sequence` counts from 1 without gaps and is what `Last-Event-ID` carries."""

    job_id: str
    sequence: int
    created_at: datetime
    level: Literal["info", "warn", "error"] = "info"
    type: str
    """`state`, `message`, `metrics`, `checkpoint`, or a name that the kind of job defines."""
    message: str
    data: dict[str, Any] = {}


class MetricPoint(Reply):
    """Values measured at one step of a job, for example `{"loss": 1.2, "learning_rate": 2e-4}`."""

    step: int
    created_at: datetime
    values: dict[str, float]
