"""Moves sweeps forward: starts trials, stops losers, gives the best all seeds, and ends a sweep when they have ended.

One elected keeper calls `SweepDriver.drive` again and again. As with pipelines, each sweep is moved in one transaction that
holds its row, and a run's job is created in the transaction that records its id: a driver that dies between two turns has
done either all of a turn or nothing, and two drivers at once do no harm. What a turn decides follows from the database
alone, so whoever becomes the keeper goes on where the last one stood.

A trial that fails is reported and the others go on; a sweep fails only when no trial ran to its end.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any

import structlog
from sqlalchemy import Executable, Row, func, select
from sqlalchemy.orm import Session, aliased

from libs.common.db.engine import Database
from libs.common.db.tables import JobMetricRow, JobRow, SweepRunRow
from libs.common.jobs.patience import is_passing
from libs.common.jobs.sweep_rules import Point
from libs.common.jobs.sweep_turn import Curves, Start, Turn
from model_training.contracts.jobs import JobKind, JobState
from model_training.contracts.sweeps import RunState

log = structlog.get_logger(__name__)

LONGEST_S = 0.2
"""After so long `drive` leaves the other sweeps for its next call: the keeper has more to do."""

LOOK_AGAIN_S = 5.0
"""A sweep is moved so often even if nothing seems to have changed: what could not start may start now."""

METRIC = "eval_loss"
_DRIVEN = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSING, JobState.CANCELLING)


class SweepDriver:
    """Drives every sweep of the platform.

    It remembers what each sweep looked like when it was moved last, only to leave alone those that look the same.
    """

    def __init__(self, database: Database, start: Start) -> None:
        self._database = database
        self._start = start
        self._seen: dict[str, tuple[Any, float]] = {}

    def drive(self) -> None:
        """Move every sweep of which something has changed; one that raises does not hold up the others.

        Raises:
            DBAPIError: PostgreSQL is away.
        """
        with self._database.session() as session:
            looks = _looks(session.execute(_overview()))
        self._seen = {sweep_id: seen for sweep_id, seen in self._seen.items() if sweep_id in looks}
        until = time.monotonic() + LONGEST_S
        for sweep_id, look in looks.items():
            before, again_at = self._seen.get(sweep_id, (None, 0.0))
            if look == before and time.monotonic() < again_at:
                continue
            try:
                with self._database.session() as session:
                    self.advance(session, sweep_id)
                self._seen[sweep_id] = look, time.monotonic() + LOOK_AGAIN_S
            except Exception as error:
                if is_passing(error):
                    raise
                log.error("sweep_not_moved", sweep_id=sweep_id, exc_info=error)
            if time.monotonic() > until:
                return

    def advance(self, session: Session, sweep_id: str) -> None:
        """Move one sweep as far as it can go now; nothing if another driver is at it."""
        sweep = session.scalars(
            select(JobRow).where(JobRow.id == sweep_id).with_for_update(skip_locked=True, key_share=True)
        ).one_or_none()
        if sweep is None:
            return
        runs = session.scalars(
            select(SweepRunRow)
            .where(SweepRunRow.sweep_id == sweep_id)
            .order_by(SweepRunRow.trial, SweepRunRow.seed)
        ).all()
        ids = [run.job_id for run in runs if run.job_id is not None]
        jobs = {job.id: job for job in session.scalars(select(JobRow).where(JobRow.id.in_(ids)))}
        Turn(session, sweep, runs, jobs, curves_of(session, jobs.values())).take(self._start)


def curves_of(session: Session, jobs: Iterable[JobRow]) -> Curves:
    """The evaluations of jobs by id, newest last. Of a job that has not said how many steps it takes, nothing is done."""
    totals = {job.id: int((job.progress or {}).get("total") or 0) for job in jobs}
    loss = JobMetricRow.values[METRIC].as_float()
    query = (
        select(JobMetricRow.job_id, JobMetricRow.step, loss)
        .where(JobMetricRow.job_id.in_(totals), JobMetricRow.values.has_key(METRIC))
        .order_by(JobMetricRow.job_id, JobMetricRow.step)
    )
    curves: Curves = defaultdict(list)
    for job_id, step, value in session.execute(query):
        done = step / totals[job_id] if totals[job_id] else 0.0
        curves[job_id].append((step, Point(done, value)))
    return curves


@cache  # asked twice a second, and building it takes longer than running it
def _overview() -> Executable:
    """Each run of each open sweep, and of ended ones that still have a job running, with its job: one query for all."""
    other, job = aliased(SweepRunRow), aliased(JobRow)
    running = (
        select(other.sweep_id)
        .where(other.sweep_id == JobRow.id, other.state == RunState.RUNNING.value)
        .exists()
    )
    evaluated = (
        select(func.max(JobMetricRow.step))
        .where(JobMetricRow.job_id == job.id, JobMetricRow.values.has_key(METRIC))
        .scalar_subquery()
    )
    return (
        select(
            JobRow.id,
            JobRow.state,
            SweepRunRow.trial,
            SweepRunRow.seed,
            SweepRunRow.state,
            job.state,
            func.round(job.progress["fraction"].as_numeric(12, 6), 2),
            evaluated,
        )
        .join(SweepRunRow, SweepRunRow.sweep_id == JobRow.id)
        .outerjoin(job, (job.id == SweepRunRow.job_id) & (SweepRunRow.state == RunState.RUNNING.value))
        .where(
            JobRow.kind == JobKind.SWEEP.value,
            JobRow.state.in_([state.value for state in _DRIVEN])
            | (running & JobRow.finished_at.is_not(None)),
        )
        .order_by(JobRow.id, SweepRunRow.trial, SweepRunRow.seed)
    )


def _looks(rows: Iterable[Row[Any]]) -> dict[str, tuple[Any, ...]]:
    """What each sweep looks like, to tell whether anything has changed."""
    looks: dict[str, tuple[Any, ...]] = {}
    for sweep_id, *rest in rows:
        looks[sweep_id] = (*looks.get(sweep_id, ()), tuple(rest))
    return looks
