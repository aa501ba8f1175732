"""How a job is going: newest values, when it ends, what is noticed, in numbers and in a sentence."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

from sqlalchemy.orm import Session

from libs.common.db.tables import JobRow
from libs.common.errors import NotFound
from model_training.contracts.jobs import FINAL_STATES, JobKind, JobProgress, JobState
from model_training.contracts.monitoring import JobReport, Remaining, RunningJob
from services.monitor.domain.findings import curves, findings
from services.monitor.domain.forecast import remaining
from services.monitor.repository import jobs, usage

POINTS = 1000
"""Newest metric points that are looked at."""


def describe(session: Session, job: RunningJob) -> RunningJob:
    """A running job with its newest values, its end and what is noticed, as far as it is a training."""
    job = job.model_copy(update={"usage": usage.of(session, job.id)})
    if job.kind is not JobKind.TRAIN:
        return job
    steps = jobs.steps(session, job.id, POINTS)
    values: dict[str, float] = {}
    for step in steps[-jobs.NEWEST :]:
        values |= step.values
    began = jobs.attempt_began(session, job.id)
    points = [(one.step, one.at.timestamp()) for one in steps if began is None or one.at >= began]
    now = jobs.now(session).timestamp()
    ahead = remaining(points, job.progress.total, now)
    seen = curves([(one.step, one.values) for one in steps], job.progress.total)
    intervals = [after[1] - before[1] for before, after in pairwise(points[-100:])]
    return job.model_copy(
        update={
            "values": values,
            "remaining": Remaining(low=ahead.low, median=ahead.median, high=ahead.high) if ahead else None,
            "findings": findings(seen, intervals, job.silent_s),
        }
    )


def report(session: Session, job_id: str) -> JobReport:
    """How a job of any kind and state is going.

    Raises:
        NotFound: there is none of this id.
    """
    row = jobs.job(session, job_id)
    if row is None:
        raise NotFound(f"There is no job {job_id!r}.", hint="`mt jobs list` shows them.")
    job = RunningJob(
        id=row.id,
        kind=JobKind(row.kind),
        started_at=row.started_at,
        progress=JobProgress.model_validate(row.progress or {}),
        silent_s=jobs.silent_s(session, row.id),
    )
    state = JobState(row.state)
    described = describe(session, job)
    if state in FINAL_STATES or state is JobState.PAUSED:
        described = described.model_copy(update={"remaining": None, "findings": []})
    wait = _queue_wait_s(row, jobs.now(session))
    return JobReport(**described.model_dump(), queue_wait_s=wait, sentence=sentence(described, state, wait))


def sentence(job: RunningJob, state: JobState, wait_s: float | None) -> str:
    """The state of a job for somebody who wants to know whether to worry."""
    if state is JobState.QUEUED:
        return f"It has waited {_span(wait_s or 0.0)} for a worker."
    if state in FINAL_STATES or state is JobState.PAUSED:
        return f"It is {state.value}."
    said = [f"Step {job.progress.step} of {job.progress.total}"] if job.progress.total else ["It runs"]
    if job.remaining is not None:
        ends = f"{_span(job.remaining.low)} to {_span(job.remaining.high)}"
        said.append(f"done in {ends} (four times in five), most likely {_span(job.remaining.median)}")
    elif job.progress.eta_s is not None:
        said.append(f"done in about {_span(job.progress.eta_s)}")
    for name, word in (("loss", "loss"), ("eval_loss", "validation loss")):
        if name in job.values:
            said.append(f"{word} {job.values[name]:.3f}")
    return " ".join(["; ".join(said) + ".", *(finding.message for finding in job.findings)])


def _queue_wait_s(row: JobRow, now: datetime) -> float | None:
    if row.queued_at is None:
        return None
    until = row.started_at or row.finished_at or now
    return max(0.0, (until - row.created_at).total_seconds())


def _span(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
