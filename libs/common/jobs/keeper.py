"""What one elected process does for all jobs: publish the outbox, ring again, take jobs away from lost workers.

Election is a PostgreSQL advisory lock: whoever holds it is the keeper, and a keeper that dies loses it with its connection.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog
from sqlalchemy import Connection, func, select, text
from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import JobRow, OutboxRow
from libs.common.jobs import transitions
from model_training.contracts.jobs import JobError, JobState

log = structlog.get_logger(__name__)

KEEPER_LOCK = 0x6D74_6B70  # any number that nobody else uses: "mtkp"
RING_AGAIN_AFTER_S = 60.0

Ring = Callable[[str, str], None]
"""Rings the doorbell of a queue for a job id."""

Duty = Callable[[], None]
"""Something else that exactly one process does again and again, in transactions of its own."""


def publish_outbox(session: Session, ring: Ring, limit: int = 100) -> int:
    """Ring for every waiting outbox row and remove it. A broker that is down leaves the rows where they are."""
    rows = session.scalars(
        select(OutboxRow).order_by(OutboxRow.id).limit(limit).with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        ring(row.queue, row.job_id)
        session.delete(row)
    return len(rows)


def ring_again(session: Session, ring: Ring) -> int:
    """Ring for jobs that wait too long: their message may have been lost with the broker's memory."""
    late = func.clock_timestamp() - timedelta(seconds=RING_AGAIN_AFTER_S)
    jobs = session.scalars(
        select(JobRow)
        .where(JobRow.state == JobState.QUEUED.value, JobRow.rung_at < late)
        .with_for_update(skip_locked=True)
    ).all()
    for job in jobs:
        ring(job.kind, job.id)
        job.rung_at = session.scalar(select(func.clock_timestamp()))
    return len(jobs)


def take_from_lost_workers(session: Session) -> int:
    """Queue again (or fail, after the last attempt) the jobs whose lease has run out."""
    held = [state.value for state in transitions.HELD]
    jobs = session.scalars(
        select(JobRow)
        .where(JobRow.state.in_(held), JobRow.lease_expires_at < func.clock_timestamp())
        .with_for_update(skip_locked=True)
    ).all()
    for job in jobs:
        error = JobError(
            code="worker_lost",
            message=f"Worker {job.lease_owner} fell silent.",
            hint="Look at the worker's log; a machine that ran out of memory is a common cause.",
        )
        transitions.lose(session, job, error)
    return len(jobs)


class Keeper:
    """Runs the three duties, and those that it is given, on a thread while this process holds the lock."""

    def __init__(
        self,
        database: Database,
        ring: Ring,
        *,
        interval_s: float = 0.1,
        sweep_every_s: float = 2.0,
        duties: Sequence[Duty] = (),
        duties_every_s: float = 0.5,
    ) -> None:
        self._database = database
        self._ring = ring
        self._interval_s = interval_s
        self._sweep_every = max(1, round(sweep_every_s / interval_s))
        self._duties = duties
        self._duties_every = max(1, round(duties_every_s / interval_s))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Start trying to become the keeper."""
        self._thread.start()

    def stop(self) -> None:
        """Stop and let another process take over."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._database.engine.connect() as connection:
                    try:
                        self._keep(connection)
                    finally:
                        connection.invalidate()  # back in the pool it would hold the lock, and nobody could be elected
            except Exception as error:
                # PostgreSQL or the broker is away: nothing is lost, the rows wait.
                log.warning("keeper_interrupted", error=str(error).splitlines()[0])
                self._stop.wait(1.0)

    def _keep(self, connection: Connection) -> None:
        elected = False
        turn = 0
        while not self._stop.is_set():
            elected = elected or self._elect(connection)
            if not elected:
                self._stop.wait(1.0)
                continue
            if turn % self._sweep_every == 0:
                connection.execute(text("select 1"))  # the lock lives as long as this connection
                connection.commit()
                self._sweep()
            if turn % self._duties_every == 0:
                self._do_duties()
            turn += 1
            self._publish()
            self._stop.wait(self._interval_s)

    def _elect(self, connection: Connection) -> bool:
        elected = bool(connection.scalar(select(func.pg_try_advisory_lock(KEEPER_LOCK))))
        connection.commit()
        return elected

    def _do_duties(self) -> None:
        for duty in self._duties:
            try:
                duty()
            except Exception as error:  # one duty that fails must not keep the others from being done
                log.warning("duty_failed", duty=getattr(duty, "__qualname__", repr(duty)), exc_info=error)

    def _publish(self) -> None:
        with self._database.session() as session:
            publish_outbox(session, self._ring)

    def _sweep(self) -> None:
        with self._database.session() as session:
            take_from_lost_workers(session)
            ring_again(session, self._ring)
