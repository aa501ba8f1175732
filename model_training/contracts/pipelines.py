"""Pipelines: index, train, evaluate and compare as one resource, whose steps name each other's results.

In any text of a step's body, `{{ files.<name> }}` stands for an uploaded file and `{{ steps.<step>.<field> }}` for a result
of another step; `RESULT_FIELDS` lists the fields. `model_training.contracts.pipeline_graph` checks and resolves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from model_training.contracts.base import Flag, Metadata, Name, Reference, Reply, Wire
from model_training.contracts.comparisons import ComparisonCreate
from model_training.contracts.evaluations import EvaluationCreate
from model_training.contracts.fine_tuning import FineTuningJobCreate
from model_training.contracts.indexes import IndexCreate
from model_training.contracts.jobs import JobError, JobKind, JobProgress, JobState

NAME = r"^[a-z0-9][a-z0-9_-]*$"
MAX_STEPS = 32

RESULT_FIELDS: Mapping[JobKind, tuple[str, ...]] = {
    JobKind.INDEX: ("id", "name"),
    JobKind.TRAIN: ("id", "fine_tuned_model"),
    JobKind.EVALUATE: ("id", "model"),
    JobKind.COMPARE: ("id",),
}
"""What later steps may name of a step of each kind. All of them are text; `id` is the id of the step's job."""

StepName = Annotated[str, Field(min_length=1, max_length=64, pattern=NAME, examples=["train"])]


class _Step(Wire):
    name: StepName
    depends_on: list[StepName] = Field(
        default=[],
        max_length=MAX_STEPS,
        description="Steps that must have succeeded first, besides those that the body refers to.",
    )


class IndexStep(_Step):
    """Build an index, as `POST /v1/indexes` does."""

    kind: Literal[JobKind.INDEX]
    body: IndexCreate


class TrainStep(_Step):
    """Tune a model, as `POST /v1/fine_tuning/jobs` does."""

    kind: Literal[JobKind.TRAIN]
    body: FineTuningJobCreate


class EvaluateStep(_Step):
    """Evaluate a model, as `POST /v1/evaluations` does."""

    kind: Literal[JobKind.EVALUATE]
    body: EvaluationCreate


class CompareStep(_Step):
    """Compare arms, as `POST /v1/comparisons` does."""

    kind: Literal[JobKind.COMPARE]
    body: ComparisonCreate


Step = Annotated[IndexStep | TrainStep | EvaluateStep | CompareStep, Field(discriminator="kind")]

EXAMPLE: dict[str, Any] = {
    "name": "learn attrs",
    "files": {"train": "file_01jabc", "chunks": "file_01jabd", "evaluation": "file_01jabe"},
    "steps": [
        {"name": "index", "kind": "index", "body": {"name": "attrs", "files": ["{{ files.chunks }}"]}},
        {
            "name": "train",
            "kind": "train",
            "body": {
                "model": "gemma-3-270m",
                "training_file": "{{ files.train }}",
                "training": {"epochs": 2},
            },
        },
        {
            "name": "evaluate",
            "kind": "evaluate",
            "body": {
                "model": "{{ steps.train.fine_tuned_model }}",
                "suites": [{"name": "code_generation", "file": "{{ files.evaluation }}"}],
                "prompt": {"examples_file": "{{ files.train }}"},
            },
        },
        {
            "name": "compare",
            "kind": "compare",
            "body": {
                "arms": [
                    {"name": "rag", "model": "rag:{{ steps.index.id }}@gemma-3-270m"},
                    {
                        "name": "tuned",
                        "model": "{{ steps.train.fine_tuned_model }}",
                        "evaluation": "{{ steps.evaluate.id }}",
                    },
                ],
                "suites": [{"name": "code_generation", "file": "{{ files.evaluation }}"}],
                "prompt": {"examples_file": "{{ files.train }}"},
                "training_job": "{{ steps.train.id }}",
            },
        },
    ],
}


class PipelineCreate(Wire):
    """A chain of steps. Steps that need nothing of each other run side by side."""

    name: Name = Field(examples=["learn attrs"])
    files: dict[StepName, Reference] = Field(
        default={},
        max_length=MAX_STEPS,
        description="Uploaded files by a name of your choice; steps say `{{ files.<name> }}`.",
        examples=[EXAMPLE["files"]],
    )
    steps: list[Step] = Field(min_length=1, max_length=MAX_STEPS)
    reuse: Flag = Field(
        default=True,
        description="Take the result of a finished job that did the same work on the same inputs instead of repeating it.",
    )
    metadata: Metadata = {}


class StepState(StrEnum):
    """Where a step stands. The state of its job says more."""

    WAITING = "waiting"
    """Steps that it depends on have not all succeeded yet."""
    RUNNING = "running"
    """Its job is queued, runs, or is paused."""
    SUCCEEDED = "succeeded"
    """Its job succeeded, in this pipeline or, when `reused`, before it."""
    FAILED = "failed"
    """Its job failed or could not be created; `error` says why."""
    CANCELLED = "cancelled"
    """Its job was cancelled."""
    SKIPPED = "skipped"
    """The pipeline ended before the step could start."""


class PipelineStep(Reply):
    """A step and what became of it. `body` is as it was asked for; the job's spec has the references resolved."""

    name: str
    kind: JobKind
    state: StepState
    depends_on: list[str] = []
    body: dict[str, Any] = {}
    job_id: str | None = None
    job_state: JobState | None = None
    reused: bool = False
    input_hash: str | None = None
    progress: JobProgress = JobProgress()
    result: dict[str, str] | None = None
    error: JobError | None = None


class Pipeline(Reply):
    """A pipeline. `id` is also the id of its job: `/v1/jobs/{id}` has its events and cancels, pauses and resumes it."""

    id: str
    object: Literal["pipeline"] = "pipeline"
    name: str
    state: JobState
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    retry_of: str | None = None
    reuse: Flag = True
    files: dict[str, str] = {}
    steps: list[PipelineStep] = []
    progress: JobProgress = JobProgress()
    error: JobError | None = None
    metadata: dict[str, str] = {}
