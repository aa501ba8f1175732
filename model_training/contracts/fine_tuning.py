"""Fine-tuning jobs, in the shape of OpenAI's `fine_tuning.job`, with what this platform adds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from model_training.contracts.base import WHOLE, Metadata, Number, PlainText, Reference, Reply, Seed, Wire
from model_training.contracts.jobs import JobError, JobProgress, JobState

Auto = Literal["auto"]


class Hyperparameters(Wire):
    """OpenAI's three. `auto` takes the value of the training configuration."""

    batch_size: Auto | Annotated[int, Field(ge=1, le=4096), WHOLE] = "auto"
    learning_rate_multiplier: Auto | Annotated[Number, Field(gt=0, le=10_000)] = "auto"
    n_epochs: Auto | Annotated[int, Field(ge=1, le=1000), WHOLE] = "auto"


class SupervisedMethod(Wire):
    """Parameters of supervised fine-tuning."""

    hyperparameters: Hyperparameters = Hyperparameters()


class Method(Wire):
    """How to train. Only supervised fine-tuning is offered."""

    type: Literal["supervised"] = "supervised"
    supervised: SupervisedMethod = SupervisedMethod()


class FineTuningJobCreate(Wire):
    """Ask for a tuned model. `training` overrides single fields of `TrainingConfig` and wins over `hyperparameters`."""

    model: Reference = Field(examples=["gemma-3-270m"])
    training_file: Reference = Field(examples=["file_01jabc"])
    validation_file: Reference | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    suffix: Annotated[PlainText, Field(max_length=64)] | None = None
    seed: Seed | None = None
    metadata: Metadata | None = None
    integrations: list[Any] | None = Field(
        default=None, max_length=0, description="Accepted where empty: reports go to `/v1/jobs/{id}/metrics`."
    )
    training: dict[str, Any] | None = Field(
        default=None, max_length=100, examples=[{"learning_rate": 2e-4, "epochs": 2}]
    )


class EffectiveSetting(Reply):
    """What was asked, what was applied, and why they differ."""

    field: str
    asked: Any
    applied: Any
    reason: str


class FineTuningJob(Reply):
    """A fine-tuning job. Times are in Unix seconds, as OpenAI's are."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None = None
    estimated_finish: int | None = None
    status: JobState
    model: str
    fine_tuned_model: str | None = None
    training_file: str
    validation_file: str | None = None
    result_files: list[str] = []
    trained_tokens: int | None = None
    seed: int = 0
    organization_id: str = "default"
    hyperparameters: Hyperparameters = Hyperparameters()
    method: Method | None = None
    error: JobError | None = None
    metadata: dict[str, str] | None = None
    integrations: list[Any] | None = None
    progress: JobProgress = JobProgress()
    effective: list[EffectiveSetting] = []
    metrics: dict[str, float] = {}
    early_stopped: bool = False
    best_step: int | None = None
    queue_position: int | None = None


class FineTuningEvent(Reply):
    """One event in OpenAI's shape. `created_at` is in Unix seconds; `id` is `<job id>-<sequence>`."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"] = "message"
    data: dict[str, Any] = {}


class Checkpoint(Reply):
    """A committed checkpoint of a training job."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    step_number: int
    metrics: dict[str, float]
