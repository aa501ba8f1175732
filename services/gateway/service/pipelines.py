"""Pipelines: checked as a whole before anything is stored, shown with their steps, retried without repeating."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from libs.common.db.tables import ArtifactRow, IndexRow, JobRow, ModelRow, PipelineStepRow
from libs.common.errors import Conflict, InvalidInput, PlatformError
from libs.common.ids import new_id
from libs.common.jobs import transitions
from model_training.contracts.base import Page
from model_training.contracts.jobs import JobError, JobKind, JobState
from model_training.contracts.pipeline_graph import PipelineFault, lookup_in, plan, substitute
from model_training.contracts.pipelines import Pipeline, PipelineCreate, PipelineStep, StepState
from services.gateway import repository
from services.gateway.domain import Principal
from services.gateway.service import files, jobs, steps


def create(
    session: Session,
    principal: Principal,
    request: PipelineCreate,
    max_attempts: int,
    retry_of: str | None = None,
) -> Pipeline:
    """Queue a pipeline, all of it or nothing.

    Raises:
        PlatformError: a step cannot run as it is written; `param` names the step and the field.
    """
    try:
        needs = plan(request)
    except PipelineFault as fault:
        raise InvalidInput(fault.message, param=fault.param, hint=fault.hint) from fault
    for name, file_id in request.files.items():
        _require_file(session, principal, name, file_id)
    _rehearse(session, replace(principal, admitted=True), request, list(needs), max_attempts)
    spec = {**request.model_dump(mode="json", exclude={"metadata"}), "retry_of": retry_of}
    row = jobs.create(session, JobKind.PIPELINE, principal, spec, request.metadata, max_attempts=1)
    for position, step in enumerate(request.steps):
        session.add(
            PipelineStepRow(
                pipeline_id=row.id,
                name=step.name,
                position=position,
                kind=step.kind.value,
                depends_on=needs[step.name],
                spec=step.body.model_dump(mode="json"),
                state=StepState.WAITING.value,
                reused=False,
            )
        )
    session.flush()
    return describe(session, row)


def _require_file(session: Session, principal: Principal, name: str, file_id: str) -> None:
    try:
        files.require(session, principal, file_id)
    except PlatformError as error:
        raise type(error)(f"files.{name}: {error.detail}", param=f"files.{name}", hint=error.hint) from error


def _rehearse(
    session: Session, principal: Principal, request: PipelineCreate, order: Sequence[str], max_attempts: int
) -> None:
    """Create the job of every step with stand-ins for earlier results, and take it all back.

    What is refused here is what the driver would be refused hours later, by the very same code.
    """
    bodies = {step.name: step for step in request.steps}
    results: dict[str, dict[str, str]] = {}
    with session.begin_nested() as rehearsal:
        for name in order:
            step = bodies[name]
            body = substitute(step.body.model_dump(mode="json"), lookup_in(request.files, results))
            try:
                job = steps.create(session, principal, step.kind, body, max_attempts)
            except PlatformError as error:
                raise _in_step(error, name, body) from error
            _stand_in(session, job)
            results[name] = steps.result_of(job)
        rehearsal.rollback()


def _in_step(error: PlatformError, name: str, body: dict[str, Any]) -> PlatformError:
    """The same complaint, with the step and the field in front."""
    place = f"steps.{name}.body"
    fields = dict(_fields(body, place))
    param = f"{place}.{error.param}" if error.param else place
    if (
        param not in fields
    ):  # the complaint may name an inner field, or the value only: find where that stands
        inner = [where for where in fields if error.param and where.endswith(f".{error.param}")]
        named = {text: where for where, text in fields.items() if _names(error.detail, text)}
        param = named[max(named, key=len)] if named else next(iter(inner), param)
    return type(error)(
        f"{param}: {error.detail}",
        param=param,
        hint=error.hint,
        rows=error.rows,
        retry_after_s=error.retry_after_s,
    )


def _fields(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Every field of a JSON value, however deep, with its dotted place."""
    yield where, value
    match value:
        case dict():
            inner = value.items()
        case list():
            inner = enumerate(value)
        case _:
            inner = ()
    for key, item in inner:
        yield from _fields(item, f"{where}.{key}")


def _names(sentence: str, value: Any) -> bool:
    return (
        isinstance(value, str)
        and value != ""
        and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", sentence) is not None
    )


def _stand_in(session: Session, job: JobRow) -> None:
    """Make it look as if the job had succeeded, so that later steps find what they refer to."""
    job.state, job.result, job.finished_at = JobState.SUCCEEDED.value, {}, job.created_at
    if job.kind == JobKind.INDEX:
        session.add(IndexRow(id=job.id, project_id=job.project_id, name=job.spec["name"], chunks=0, stamp={}))
    elif job.kind == JobKind.TRAIN:
        model = new_id("model")
        session.add(ArtifactRow(sha256=model, kind="adapter", bytes=0, job_id=job.id))
        session.flush()
        session.add(
            ModelRow(
                id=model,
                project_id=job.project_id,
                base=job.spec["model"],
                artifact=model,
                job_id=job.id,
                state="servable",
                metrics={},
                lineage={},
            )
        )
        job.result = {"model_id": model}
    session.flush()


def retry(session: Session, principal: Principal, pipeline_id: str, max_attempts: int) -> Pipeline:
    """A new pipeline of the same steps, in which those that had succeeded are reused.

    Raises:
        Conflict: the pipeline has not ended, has succeeded, or is being retried already.
    """
    jobs.require(session, principal, pipeline_id, JobKind.PIPELINE)
    row = transitions.locked(session, pipeline_id)  # two retries at once must see each other
    if JobState(row.state) not in (JobState.FAILED, JobState.CANCELLED):
        raise Conflict(
            f"Pipeline {row.id} is {row.state}; only one that failed or was cancelled can be retried.",
            param="id",
        )
    other = repository.open_retry(session, principal.project_id, row.id)
    if other is not None:
        raise Conflict(
            f"Pipeline {row.id} is being retried already, by {other}.",
            param="id",
            hint="Wait for it or cancel it.",
        )
    spec = {name: value for name, value in row.spec.items() if name != "retry_of"}
    request = PipelineCreate.model_validate({**spec, "metadata": row.meta})
    return create(session, principal, request, max_attempts, retry_of=row.id)


def list_page(
    session: Session, principal: Principal, after: str | None, limit: int, state: JobState | None
) -> Page[Pipeline]:
    """One page of pipelines, newest first."""
    rows, more = jobs.list_rows(
        session, principal, after=after, limit=limit, kind=JobKind.PIPELINE, state=state
    )
    return Page.of(_describe(session, rows), more)


def describe(session: Session, row: JobRow) -> Pipeline:
    """A pipeline with its steps."""
    return _describe(session, [row])[0]


def _describe(session: Session, rows: Sequence[JobRow]) -> list[Pipeline]:
    step_rows = repository.pipeline_steps(session, [row.id for row in rows])
    step_jobs = repository.jobs_by_id(session, {step.job_id for step in step_rows if step.job_id})
    return [_pipeline(row, [s for s in step_rows if s.pipeline_id == row.id], step_jobs) for row in rows]


def _pipeline(row: JobRow, own: Sequence[PipelineStepRow], step_jobs: Mapping[str, JobRow]) -> Pipeline:
    return Pipeline(
        id=row.id,
        name=row.spec["name"],
        state=JobState(row.state),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        retry_of=row.spec["retry_of"],
        reuse=row.spec["reuse"],
        files=row.spec["files"],
        steps=[_step(step, step_jobs.get(step.job_id or ""), transitions.is_final(row)) for step in own],
        progress=jobs.progress_of(row),
        error=jobs.error_of(row),
        metadata=row.meta,
    )


def _step(step: PipelineStepRow, job: JobRow | None, ended: bool) -> PipelineStep:
    skipped = ended and step.state == StepState.WAITING
    shown = PipelineStep(
        name=step.name,
        kind=JobKind(step.kind),
        state=StepState.SKIPPED if skipped else StepState(step.state),
        depends_on=step.depends_on,
        body=step.spec,
        job_id=step.job_id,
        reused=step.reused,
        input_hash=step.input_hash,
        result=step.result,
        error=JobError.model_validate(step.error) if step.error else None,
    )
    if job is not None:
        shown.job_state, shown.progress = JobState(job.state), jobs.progress_of(job)
    return shown
