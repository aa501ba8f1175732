"""What a pipeline's step is to the gateway: its job is created as any other, or an identical finished one is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from libs.common.db.tables import JobRow, PipelineStepRow
from libs.common.errors import InvalidInput
from libs.common.jobs.pipeline_turn import Start, Started
from model_training.contracts.comparisons import ComparisonCreate
from model_training.contracts.evaluations import EvaluationCreate
from model_training.contracts.fine_tuning import FineTuningJobCreate
from model_training.contracts.indexes import IndexCreate
from model_training.contracts.jobs import JobKind
from services.gateway import repository
from services.gateway.domain import ALL_SCOPES, Principal
from services.gateway.service import fine_tuning, work
from services.gateway.service.inputs import input_hash

Create = Callable[[Session, Principal, Any, int], BaseModel]

CREATES: dict[JobKind, tuple[type[BaseModel], Create]] = {
    JobKind.INDEX: (IndexCreate, work.create_index),
    JobKind.TRAIN: (FineTuningJobCreate, fine_tuning.create),
    JobKind.EVALUATE: (EvaluationCreate, work.create_evaluation),
    JobKind.COMPARE: (ComparisonCreate, work.create_comparison),
}
"""The body of each kind, and the function behind its own `POST`."""


def create(
    session: Session, principal: Principal, kind: JobKind, body: dict[str, Any], max_attempts: int
) -> JobRow:
    """Create the job of a step through the very function that serves the kind's own `POST`.

    Raises:
        PlatformError: what that function refuses.
        InvalidInput: with its references resolved, the body has not the right shape any more.
    """
    shape, make = CREATES[kind]
    try:
        request = shape.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{field}: {first['msg']}.", param=field) from error
    made: Any = make(session, principal, request, max_attempts)
    return repository.job(session, made.id)


def starter(max_attempts: Callable[[], int]) -> Start:
    """How the driver starts steps.

    Args:
        max_attempts: how often a job is tried; it may change at run time.
    """

    def start(session: Session, pipeline: JobRow, step: PipelineStepRow, body: dict[str, Any]) -> Started:
        principal = Principal(pipeline.project_id, ALL_SCOPES, admitted=True)
        with session.begin_nested() as attempt:
            job = create(session, principal, JobKind(step.kind), body, max_attempts())
            digest = input_hash(session, job)
            twin = _twin(session, pipeline, digest)
            if twin is None:
                job.pipeline_id, job.input_hash, job.priority = pipeline.id, digest, pipeline.priority
                job.created_by = pipeline.created_by
                return Started(job, False, digest)
            attempt.rollback()  # the job served to find out what exactly would be done; it was never there
        return Started(twin, True, digest)

    return start


def _twin(session: Session, pipeline: JobRow, digest: str | None) -> JobRow | None:
    """A finished job with the same inputs whose result still exists.

    With `reuse: false`, only what the pipeline that this one retries has done counts.
    """
    if digest is None:
        return None
    within = None if pipeline.spec["reuse"] else pipeline.spec["retry_of"]
    if within is None and not pipeline.spec["reuse"]:
        return None
    found = repository.succeeded_with_inputs(session, pipeline.project_id, digest, within)
    return next((job for job in found if repository.result_exists(session, job)), None)


def result_of(job: JobRow) -> dict[str, str]:
    """The result fields of a job that has succeeded, as `RESULT_FIELDS` lists them."""
    result = job.result or {}
    match JobKind(job.kind):
        case JobKind.INDEX:
            return {"id": job.id, "name": job.spec["name"]}
        case JobKind.TRAIN:
            return {"id": job.id, "fine_tuned_model": result["model_id"]}
        case JobKind.EVALUATE:
            return {"id": job.id, "model": job.spec["model"]}
        case _:
            return {"id": job.id}
