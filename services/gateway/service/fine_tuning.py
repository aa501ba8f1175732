"""Fine-tuning jobs: from OpenAI's request to a resolved training configuration, and back to OpenAI's shape."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy.orm import Session

from libs.common.db.tables import CheckpointRow, JobEventRow, JobRow
from libs.common.errors import InvalidInput
from model_training.config.errors import ConfigError
from model_training.config.training_config import TrainingConfig
from model_training.contracts.base import Page
from model_training.contracts.files import FilePurpose
from model_training.contracts.fine_tuning import (
    Checkpoint,
    FineTuningEvent,
    FineTuningJob,
    FineTuningJobCreate,
    Hyperparameters,
)
from model_training.contracts.jobs import JobKind, JobState
from services.gateway import repository
from services.gateway.domain import Principal
from services.gateway.service import files, jobs

SENT_APART = frozenset({"model_name", "training_file", "validation_file", "suffix"})


def create(
    session: Session, principal: Principal, request: FineTuningJobCreate, max_attempts: int
) -> FineTuningJob:
    """Queue a fine-tuning job.

    Raises:
        InvalidInput: the model is unknown or a setting breaks a rule; the field is named.
        NotFound: a file does not exist.
    """
    config = resolve(request)
    files.require(session, principal, request.training_file, FilePurpose.FINE_TUNE, "training_file")
    if request.validation_file is not None:
        files.require(session, principal, request.validation_file, FilePurpose.FINE_TUNE, "validation_file")
    spec: dict[str, Any] = {
        "model": request.model,
        "training_file": request.training_file,
        "validation_file": request.validation_file,
        "config": config.model_dump(mode="json"),
        "asked": request.model_dump(mode="json", exclude_none=True),
        "suffix": request.suffix,
        "seed": config.seed,
    }
    row = jobs.create(session, JobKind.TRAIN, principal, spec, request.metadata, max_attempts)
    return describe(row)


def resolve(request: FineTuningJobCreate) -> TrainingConfig:
    """The training configuration that a request means.

    Raises:
        InvalidInput: a value breaks a rule.
    """
    _refuse_sent_apart(request.training or {})
    try:
        config = TrainingConfig.create_default()
        config.update(check_machine=False)  # the trainer knows its own machine; this one may have no GPU
        values = {
            "model_name": request.model,
            **_from_hyperparameters(request, config),
            **(request.training or {}),
        }
        if request.seed is not None:
            values["seed"] = request.seed
        config.update(**values)
    except ConfigError as error:
        raise InvalidInput(error.message, param=_param_of(error), hint=error.hint) from error
    return config


def _refuse_sent_apart(training: dict[str, Any]) -> None:
    for name in training:
        if TrainingConfig.also_known_as.get(name, name) in SENT_APART:
            raise InvalidInput(
                f"{name} is not a setting of `training`.",
                param=f"training.{name}"[:200],
                hint="Models and files are fields of the request itself.",
            )


def _from_hyperparameters(request: FineTuningJobCreate, config: TrainingConfig) -> dict[str, Any]:
    given = request.hyperparameters or (request.method.supervised.hyperparameters if request.method else None)
    if given is None:
        return {}
    values: dict[str, Any] = {}
    if given.batch_size != "auto":
        values["batch_size"] = given.batch_size
    if given.n_epochs != "auto":
        values["epochs"] = given.n_epochs
    if given.learning_rate_multiplier != "auto":
        values["learning_rate"] = config.learning_rate * given.learning_rate_multiplier
    return values


def _param_of(error: ConfigError) -> str | None:
    field = error.faults[0].field if error.faults else None
    return "model" if field == "model_name" else field


def get(session: Session, principal: Principal, job_id: str) -> FineTuningJob:
    """One fine-tuning job, with its place in the line."""
    row = jobs.require(session, principal, job_id, JobKind.TRAIN)
    return describe(row, repository.queue_position(session, row))


def describe(row: JobRow, queue_position: int | None = None) -> FineTuningJob:
    """A job in OpenAI's shape."""
    result = row.result or {}
    config = row.spec["config"]
    progress = jobs.progress_of(row)
    asked = row.spec.get("asked", {})
    return FineTuningJob(
        id=row.id,
        created_at=int(row.created_at.timestamp()),
        finished_at=int(row.finished_at.timestamp()) if row.finished_at else None,
        estimated_finish=int(time.time() + progress.eta_s)
        if progress.eta_s and not row.finished_at
        else None,
        status=JobState(row.state),
        model=row.spec["model"],
        fine_tuned_model=result.get("model_id"),
        training_file=row.spec["training_file"],
        validation_file=row.spec.get("validation_file"),
        trained_tokens=result.get("trained_tokens"),
        seed=row.spec["seed"],
        hyperparameters=Hyperparameters(n_epochs=config["epochs"], batch_size=config["batch_size"]),
        method=asked.get("method"),
        error=jobs.error_of(row),
        metadata=row.meta,
        progress=progress,
        effective=result.get("effective", []),
        metrics={k: v for k, v in result.get("metrics", {}).items() if isinstance(v, int | float)},
        early_stopped=result.get("early_stopped", False),
        best_step=result.get("best_step"),
        queue_position=queue_position,
    )


def list_page(
    session: Session, principal: Principal, after: str | None, limit: int, state: JobState | None
) -> Page[FineTuningJob]:
    """One page of fine-tuning jobs."""
    rows, more = jobs.list_rows(session, principal, after=after, limit=limit, kind=JobKind.TRAIN, state=state)
    return Page.of([describe(row) for row in rows], more)


def events(
    session: Session, principal: Principal, job_id: str, after: str | None, limit: int
) -> Page[FineTuningEvent]:
    """Events in OpenAI's shape and order: newest first."""
    jobs.require(session, principal, job_id, JobKind.TRAIN)
    rows = repository.events_before(session, job_id, _sequence(after), limit + 1)
    return Page.of([_event(row) for row in rows[:limit]], len(rows) > limit)


def _sequence(after: str | None) -> int | None:
    if after is None:
        return None
    tail = after.rpartition("-")[2]
    if not tail.isascii() or not tail.isdigit() or int(tail) >= 2**63:
        raise InvalidInput(
            f"after={after!r} is not an event's id.", param="after", hint="Take `last_id` of a page."
        )
    return int(tail)


def _event(row: JobEventRow) -> FineTuningEvent:
    return FineTuningEvent(
        id=f"{row.job_id}-{row.sequence}",
        created_at=int(row.created_at.timestamp()),
        level=row.level,  # pyright: ignore[reportArgumentType]
        message=row.message,
        type="metrics" if row.type == "metrics" else "message",
        data=row.data,
    )


def checkpoints(
    session: Session, principal: Principal, job_id: str, after: str | None, limit: int
) -> Page[Checkpoint]:
    """Committed checkpoints, newest first."""
    job = jobs.require(session, principal, job_id, JobKind.TRAIN)
    data = [_checkpoint(job, row) for row in repository.checkpoints(session, job.id)]
    ids = [checkpoint.id for checkpoint in data]
    if after is not None and after not in ids:
        raise InvalidInput(
            f"after={after!r} is not a checkpoint of the job.",
            param="after",
            hint="Take `last_id` of a page.",
        )
    start = ids.index(after) + 1 if after is not None else 0
    return Page.of(data[start : start + limit], len(data) > start + limit)


def _checkpoint(job: JobRow, row: CheckpointRow) -> Checkpoint:
    return Checkpoint(
        id=row.id,
        created_at=int(row.created_at.timestamp()),
        fine_tuning_job_id=job.id,
        fine_tuned_model_checkpoint=f"{(job.result or {}).get('model_id', job.id)}:step-{row.step}",
        step_number=row.step,
        metrics={k: v for k, v in row.metrics.items() if isinstance(v, int | float)},
    )
