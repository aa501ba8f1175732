"""Moves pipelines forward: starts steps whose dependencies have succeeded, and ends a pipeline when its steps have ended.

One elected keeper calls `PipelineDriver.drive` again and again. Each pipeline is moved in one transaction that holds its
row, and a step's job is created in the transaction that records its id: a driver that dies between two turns has done
either all of a turn or nothing, and two drivers at once do no harm.

What becomes of the others when a step fails: those that run finish, because a retry takes up what they made; no other one
starts. Then the pipeline fails. Cancelling and pausing a pipeline cancels and pauses the jobs of its steps.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import structlog
from sqlalchemy import Executable, Row, exists, select
from sqlalchemy.orm import Session, aliased

from libs.common.db.engine import Database
from libs.common.db.tables import JobRow, PipelineStepRow
from libs.common.jobs.patience import is_passing
from libs.common.jobs.pipeline_turn import ResultOf, Start, Turn
from model_training.contracts.jobs import FINAL_STATES, JobKind, JobState
from model_training.contracts.pipelines import StepState

log = structlog.get_logger(__name__)

LONGEST_S = 0.2
"""After so long `drive` leaves the other pipelines for its next call: the keeper has more to do."""

SMALLEST_STEP = 0.01
"""The progress of the whole that is worth writing down."""


class PipelineDriver:
    """Drives every pipeline of the platform."""

    def __init__(self, database: Database, start: Start, result_of: ResultOf) -> None:
        self._database = database
        self._start = start
        self._result_of = result_of

    def drive(self) -> None:
        """Move every pipeline of which something has changed; one that raises does not hold up the others.

        Raises:
            DBAPIError: PostgreSQL is away.
        """
        with self._database.session() as session:
            waiting = list(_to_be_moved(session.execute(_overview())))
        until = time.monotonic() + LONGEST_S
        for pipeline_id in waiting:
            try:
                with self._database.session() as session:
                    self.advance(session, pipeline_id)
            except Exception as error:
                if is_passing(error):
                    raise
                log.error("pipeline_not_moved", pipeline_id=pipeline_id, exc_info=error)
            if time.monotonic() > until:
                return

    def advance(self, session: Session, pipeline_id: str) -> None:
        """Move one pipeline as far as it can go now; nothing if another driver is at it."""
        pipeline = session.scalars(
            select(JobRow).where(JobRow.id == pipeline_id).with_for_update(skip_locked=True, key_share=True)
        ).one_or_none()
        if pipeline is None:
            return
        steps = session.scalars(
            select(PipelineStepRow)
            .where(PipelineStepRow.pipeline_id == pipeline_id)
            .order_by(PipelineStepRow.position)
        ).all()
        ids = [step.job_id for step in steps if step.job_id is not None]
        jobs = {job.id: job for job in session.scalars(select(JobRow).where(JobRow.id.in_(ids)))}
        Turn(session, pipeline, steps, jobs).take(self._start, self._result_of)


@cache  # asked twice a second, and building it takes longer than running it
def _overview() -> Executable:
    """Each step of each open pipeline, and of ended ones that still have a job running, with its job: one query for all."""
    driven = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSING, JobState.CANCELLING)
    other, job = aliased(PipelineStepRow), aliased(JobRow)
    running = exists().where(other.pipeline_id == JobRow.id, other.state == StepState.RUNNING.value)
    left_over = running & JobRow.finished_at.is_not(None)
    return (
        select(
            JobRow.id,
            JobRow.state.label("pipeline_state"),
            JobRow.progress["fraction"].as_float().label("written"),
            PipelineStepRow.name,
            PipelineStepRow.state,
            PipelineStepRow.depends_on,
            job.state.label("job_state"),
            job.progress["fraction"].as_float().label("fraction"),
        )
        .join(PipelineStepRow, PipelineStepRow.pipeline_id == JobRow.id)
        .outerjoin(job, job.id == PipelineStepRow.job_id)
        .where(JobRow.kind == JobKind.PIPELINE.value, JobRow.state.in_([s.value for s in driven]) | left_over)
        .order_by(JobRow.id)
    )


def _to_be_moved(rows: Iterable[Row[Any]]) -> Iterator[str]:
    """Ids of the pipelines that a turn would change."""
    pipelines: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        pipelines[row.id].append(row)
    for pipeline_id, steps in pipelines.items():
        if steps[0].pipeline_state != JobState.RUNNING or _has_news(steps):
            yield pipeline_id


def _has_news(steps: Sequence[Row[Any]]) -> bool:
    done = {step.name for step in steps if step.state == StepState.SUCCEEDED}
    failing = any(step.state in (StepState.FAILED, StepState.CANCELLED) for step in steps)
    fraction = float(len(done))
    for step in steps:
        if step.state == StepState.WAITING and done >= set(step.depends_on) and not failing:
            return True
        if step.state == StepState.RUNNING:
            if step.job_state is None or step.job_state in FINAL_STATES:
                return True
            fraction += step.fraction or 0.0
    return abs(fraction / len(steps) - (steps[0].written or 0.0)) >= SMALLEST_STEP
