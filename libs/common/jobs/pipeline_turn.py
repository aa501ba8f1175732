"""One pipeline's turn: what its steps' jobs have come to is taken over, and what can start starts.

Everything happens in the caller's transaction, which holds the pipeline's row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.orm import Session

from libs.common import tracing
from libs.common.db.tables import JobRow, PipelineStepRow
from libs.common.errors import JobFailure, PlatformError
from libs.common.jobs import events, transitions
from libs.common.jobs.patience import is_passing
from model_training.contracts.jobs import JobError, JobProgress, JobState
from model_training.contracts.pipeline_graph import lookup_in, substitute
from model_training.contracts.pipelines import StepState

log = structlog.get_logger(__name__)

PAUSABLE = frozenset({JobState.QUEUED, JobState.RUNNING})
CANCELLABLE = frozenset(JobState) - {
    JobState.SUCCEEDED,
    JobState.FAILED,
    JobState.CANCELLED,
    JobState.CANCELLING,
}
TRY_LATER = frozenset({429, 503})
"""Refusals that say nothing about the step: it waits for the next turn."""


@dataclass(frozen=True)
class Started:
    """The job that does a step's work. A `reused` one had succeeded before; `result` holds its result fields."""

    job: JobRow
    reused: bool
    input_hash: str | None


Start = Callable[[Session, JobRow, PipelineStepRow, dict[str, Any]], Started]
"""Creates the job of a step (pipeline, step, body with its references resolved), or finds one that may be reused.

Raises `PlatformError` when the body cannot be accepted; the step fails with it.
"""

ResultOf = Callable[[JobRow], dict[str, str]]
"""The result fields of a job that has succeeded (`RESULT_FIELDS`)."""


class Turn:
    """One pipeline, its steps and their jobs, for the length of a transaction that holds the pipeline's row."""

    def __init__(
        self, session: Session, pipeline: JobRow, steps: Sequence[PipelineStepRow], jobs: Mapping[str, JobRow]
    ) -> None:
        self._session = session
        self._pipeline = pipeline
        self._steps = steps
        self._jobs = dict(jobs)

    def take(self, start: Start, result_of: ResultOf) -> None:
        """See `PipelineDriver.advance`."""
        if self._state is JobState.QUEUED:
            self._begin()
        for step in self._in(StepState.RUNNING):
            self._settle(step, result_of)
        if self._state is JobState.RUNNING:
            self._start_ready(start, result_of)
        elif self._state is JobState.PAUSING:
            self._ask(PAUSABLE, transitions.request_pause)
        else:  # cancelling, or cancelled while it was paused
            self._ask(CANCELLABLE, transitions.request_cancel)
        self._report_progress()
        if not transitions.is_final(self._pipeline):
            self._conclude()

    @property
    def _state(self) -> JobState:
        return JobState(self._pipeline.state)

    def _in(self, *states: StepState) -> list[PipelineStepRow]:
        return [step for step in self._steps if StepState(step.state) in states]

    def _job(self, step: PipelineStepRow) -> JobRow | None:
        return self._jobs.get(step.job_id or "")

    def _begin(self) -> None:
        again = self._pipeline.started_at is not None
        transitions.begin(
            self._session, self._pipeline, "The pipeline goes on." if again else "The pipeline starts."
        )
        self._ask(frozenset({JobState.PAUSED}), transitions.resume)

    def _ask(self, states: frozenset[JobState], change: Callable[[Session, JobRow], None]) -> None:
        """Change the jobs of running steps that are in one of these states."""
        for step in self._in(StepState.RUNNING):
            if step.job_id is None:
                continue
            job = self._jobs[step.job_id] = transitions.locked(self._session, step.job_id)
            if JobState(job.state) in states:
                change(self._session, job)

    def _settle(self, step: PipelineStepRow, result_of: ResultOf) -> None:
        """Take over how the job of a running step ended, if it did."""
        job = self._job(step)
        if job is None:
            gone = JobError(code="job_gone", message="The step's job does not exist any more.")
            self._fail(step, gone)
        elif job.state == JobState.SUCCEEDED:
            step.state, step.result = StepState.SUCCEEDED.value, result_of(job)
            self._say(step, f"Step {step.name} succeeded ({job.id}).")
        elif job.state == JobState.FAILED:
            self._fail(
                step, JobError.model_validate(job.error or {"code": "unknown", "message": "No reason."})
            )
        elif job.state == JobState.CANCELLED:
            step.state = StepState.CANCELLED.value
            self._say(step, f"Step {step.name} was cancelled ({job.id}).", level="warn")

    def _fail(self, step: PipelineStepRow, error: JobError) -> None:
        step.state, step.error = StepState.FAILED.value, error.model_dump(mode="json", exclude_none=True)
        self._say(step, f"Step {step.name} failed: {error.message}", level="error", error=step.error)

    def _start_ready(self, start: Start, result_of: ResultOf) -> None:
        """Start what can start. A reused step has succeeded at once, so those after it may start in the same turn."""
        tried: set[str] = set()
        while not self._in(StepState.FAILED, StepState.CANCELLED):
            done = {step.name for step in self._in(StepState.SUCCEEDED)}
            ready = [
                s for s in self._in(StepState.WAITING) if s.name not in tried and done >= set(s.depends_on)
            ]
            if not ready:
                return
            tried.add(ready[0].name)
            self._start_step(ready[0], start, result_of)

    def _start_step(self, step: PipelineStepRow, start: Start, result_of: ResultOf) -> None:
        results = {s.name: s.result or {} for s in self._in(StepState.SUCCEEDED)}
        body = substitute(step.spec, lookup_in(self._pipeline.spec["files"], results))
        try:
            with self._session.begin_nested(), tracing.continued(self._pipeline.traceparent):
                started = start(self._session, self._pipeline, step, body)
        except PlatformError as error:
            if error.status not in TRY_LATER:
                self._fail(step, JobFailure.of(error).error)
            return
        except Exception as error:
            if is_passing(error):
                raise  # the database is away, which is no fault of the step
            log.error("step_not_started", pipeline_id=step.pipeline_id, step=step.name, exc_info=error)
            self._fail(step, JobError(code="internal_error", message=f"The step could not start: {error!r}"))
            return
        job = self._jobs[started.job.id] = started.job
        step.job_id, step.input_hash, step.reused = job.id, started.input_hash, started.reused
        if started.reused:
            step.state, step.result = StepState.SUCCEEDED.value, result_of(job)
            self._say(step, f"Step {step.name} is reused from {job.id}.")
        else:
            step.state = StepState.RUNNING.value
            self._say(step, f"Step {step.name} starts as {job.id}.")

    def _say(
        self, step: PipelineStepRow, message: str, *, level: events.Level = "info", error: Any = None
    ) -> None:
        if transitions.is_final(self._pipeline):
            return  # whoever follows the pipeline has seen its end; nothing may come after it
        data = {"step": step.name, "state": step.state, "job_id": step.job_id, "reused": step.reused}
        if error is not None:
            data["error"] = error
        events.append(self._session, self._pipeline, message, type="step", level=level, data=data)
        events.notify(self._session, self._pipeline.id)

    def _report_progress(self) -> None:
        done = self._in(StepState.SUCCEEDED)
        running = {
            step.name: JobProgress.model_validate(job.progress or {}).fraction
            for step in self._in(StepState.RUNNING)
            if (job := self._job(step)) is not None
        }
        progress = {
            "fraction": round((len(done) + sum(running.values())) / len(self._steps), 4),
            "step": len(done),
            "total": len(self._steps),
            "message": ", ".join(f"{name} {fraction:.0%}" for name, fraction in running.items()),
            "eta_s": None,
        }
        if progress != self._pipeline.progress:
            self._pipeline.progress = progress
            events.notify(self._session, self._pipeline.id)

    def _conclude(self) -> None:
        """End the pipeline, or let it rest, if nothing of it runs any more."""
        running = [job for step in self._in(StepState.RUNNING) if (job := self._job(step)) is not None]
        ended_badly = self._in(StepState.FAILED, StepState.CANCELLED)
        pipeline = self._pipeline
        if len(self._in(StepState.SUCCEEDED)) == len(self._steps):
            results = {step.name: {**(step.result or {}), "reused": step.reused} for step in self._steps}
            transitions.succeed(self._session, pipeline, {"steps": results})
        elif self._state is JobState.CANCELLING:
            if not running:
                transitions.stopped(self._session, pipeline)
        elif ended_badly and not running:
            transitions.fail(self._session, pipeline, _reason(pipeline, ended_badly[0]))
        elif self._state is JobState.PAUSING and all(job.state == JobState.PAUSED for job in running):
            transitions.stopped(self._session, pipeline)


def _reason(pipeline: JobRow, step: PipelineStepRow) -> JobError:
    """Why the pipeline failed: its first step that did not succeed, and the way out."""
    error = JobError.model_validate(step.error) if step.error else None
    what = f"failed: {error.message}" if error else "was cancelled."
    own = f"{error.hint} " if error and error.hint else ""
    return JobError(
        code="step_failed" if error else "step_cancelled",
        message=f"Step {step.name} {what}",
        param=f"steps.{step.name}",
        blame=error.blame if error else "user",
        hint=f"{own}`mt pipelines retry {pipeline.id}` repeats what did not succeed, and nothing else.",
    )
