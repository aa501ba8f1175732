"""What one elected process does for all jobs: publish the outbox, ring again, take jobs away from lost workers.

Election is a PostgreSQL advisory lock: whoever holds it is the keeper, and a keeper that dies or hangs loses it with its
connection.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog
from kombu.exceptions import OperationalError as BrokerAway
from sqlalchemy import Connection, delete, func, literal_column, select, text, update
from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import JobRow, OutboxRow
from libs.common.jobs import transitions
from libs.common.jobs.patience import is_passing
from model_training.contracts.jobs import JobError

log = structlog.get_logger(__name__)

KEEPER_LOCK = 0x6D74_6B70  # any number that nobody else uses: "mtkp"
RING_AGAIN_AFTER_S = 60.0
RINGS_PER_KIND = 10
"""Doorbells rung again at a time. A worker that hears one goes on until nothing waits, so more would only pile up."""

ROWS_AT_ONCE = 500
"""Rows of the outbox that are published in one turn."""

AFTER_FAILURE_S = 1.0
HANGING_AFTER_S = 15.0
"""Silence after which PostgreSQL ends a keeper's connection, and its lock with it: it is stopped or out of reach."""

STUCK_AFTER_S = 120.0
"""Silence of its thread after which a keeper's process counts as stuck."""

Ring = Callable[[str, Sequence[str]], None]
"""Rings the doorbell of a queue for ids of jobs."""

Duty = Callable[[], None]
"""Something else that exactly one process does again and again, in transactions of its own."""


def publish_outbox(session: Session, ring: Ring) -> int:
    """Remove the oldest rows of the outbox and ring for them. A broker that is down leaves the rows where they are."""
    rows = session.execute(_TAKE_FROM_OUTBOX).all()
    _ring_each_queue(ring, [(row.queue, row.job_id) for row in sorted(rows, key=lambda row: row.id)])
    return len(rows)


# Asked ten times a second, and building a statement takes longer than running it.
_TAKE_FROM_OUTBOX = (
    delete(OutboxRow)
    .where(
        OutboxRow.id.in_(
            select(OutboxRow.id).order_by(OutboxRow.id).limit(ROWS_AT_ONCE).with_for_update(skip_locked=True)
        )
    )
    .returning(OutboxRow.id, OutboxRow.queue, OutboxRow.job_id)
    .execution_options(synchronize_session=False)
)


def _ring_each_queue(ring: Ring, jobs: Iterable[tuple[str, str]]) -> None:
    """Ring each queue once for all of its jobs, which are given as pairs of queue and id."""
    queues: dict[str, list[str]] = defaultdict(list)
    for queue, job_id in jobs:
        queues[queue].append(job_id)
    for queue, job_ids in queues.items():
        ring(queue, job_ids)


def ring_again(session: Session, ring: Ring, after_s: float = RING_AGAIN_AFTER_S) -> int:
    """Ring for jobs that wait too long: their message may have been lost with the broker's memory."""
    late = (
        select(JobRow.id)
        .where(
            JobRow.state == literal_column("'queued'"),  # written out, so that its partial index is used
            JobRow.rung_at < func.clock_timestamp() - timedelta(seconds=after_s),
        )
        .with_for_update(skip_locked=True, key_share=True)
    )
    jobs = session.execute(
        update(JobRow)
        .where(JobRow.id.in_(late))
        .values(rung_at=func.clock_timestamp())
        .returning(JobRow.kind, JobRow.id)
        .execution_options(synchronize_session=False)
    ).all()
    kinds = Counter[str]()
    rung: list[tuple[str, str]] = []
    for kind, job_id in jobs:
        kinds[kind] += 1
        if kinds[kind] <= RINGS_PER_KIND:
            rung.append((kind, job_id))
    _ring_each_queue(ring, rung)
    return len(rung)


def take_from_lost_workers(session: Session) -> int:
    """Queue again (or fail, after the last attempt) the jobs whose lease has run out."""
    held = [state.value for state in transitions.HELD]
    jobs = session.scalars(
        select(JobRow)
        .where(
            JobRow.lease_owner.is_not(None),  # few jobs are: it has an index
            JobRow.state.in_(held),
            JobRow.lease_expires_at < func.clock_timestamp(),
        )
        .with_for_update(skip_locked=True, key_share=True)
    ).all()
    for job in jobs:
        error = JobError(
            code="worker_lost",
            message=f"Worker {job.lease_owner} fell silent.",
            hint="Look at the worker's log; a machine that ran out of memory is a common cause.",
        )
        transitions.lose(session, job, error)
    return len(jobs)


@dataclass
class _Task:
    """Something to do every so often; `due` is a time of `time.monotonic()`."""

    name: str
    run: Duty
    every_s: float
    due: float = 0.0


class Keeper:
    """Runs the three duties, and those that it is given, on a thread while this process holds the lock."""

    def __init__(
        self,
        database: Database,
        ring: Ring,
        *,
        interval_s: float = 0.1,
        sweep_every_s: float = 2.0,
        ring_again_after_s: float = RING_AGAIN_AFTER_S,
        duties: Sequence[Duty] = (),
        duties_every_s: float = 0.5,
        hanging_after_s: float = HANGING_AFTER_S,
    ) -> None:
        self._database = database
        self._interval_s = interval_s
        self._sweep_every_s = sweep_every_s
        self._hanging_after_s = hanging_after_s
        publish = partial(publish_outbox, ring=ring)
        again = partial(ring_again, ring=ring, after_s=ring_again_after_s)
        self._tasks = [
            _Task("take_from_lost_workers", self._in_session(take_from_lost_workers), sweep_every_s),
            _Task("publish_outbox", self._in_session(publish), interval_s),
            _Task("ring_again", self._in_session(again), sweep_every_s),
            *(_Task(getattr(duty, "__qualname__", repr(duty)), duty, duties_every_s) for duty in duties),
        ]
        self._stop = threading.Event()
        self._turned = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Start trying to become the keeper."""
        self._thread.start()

    def stop(self) -> None:
        """Stop and let another process take over."""
        self._stop.set()
        self._thread.join(timeout=10)

    def stuck(self) -> str | None:
        """Why this process should be restarted; None while its thread takes its turns, elected or waiting."""
        if not self._thread.is_alive():
            return "The keeper's thread has ended."
        silent_s = time.monotonic() - self._turned
        return f"The keeper has done nothing for {silent_s:.0f} s." if silent_s > STUCK_AFTER_S else None

    def _run(self) -> None:
        while not self._stop.is_set():
            self._turned = time.monotonic()
            try:
                with self._database.engine.connect() as connection:
                    try:
                        self._keep(connection)
                    finally:
                        connection.invalidate()  # back in the pool it would hold the lock, and nobody could be elected
            except Exception as error:
                log.warning(
                    "keeper_interrupted", error=str(error).partition("\n")[0]
                )  # nothing is lost, the rows wait
                self._stop.wait(AFTER_FAILURE_S)

    def _keep(self, connection: Connection) -> None:
        while not self._elect(connection):
            self._turned = time.monotonic()
            if self._stop.wait(1.0):
                return
        log.info("keeper_elected")
        prove_at = 0.0
        while not self._stop.is_set():
            self._turned = time.monotonic()
            if self._turned >= prove_at:
                connection.execute(text("select 1"))  # the lock lives as long as this connection
                connection.commit()
                prove_at = time.monotonic() + self._sweep_every_s
            for task in self._tasks:
                self._do(task)
            self._stop.wait(self._interval_s)

    def _elect(self, connection: Connection) -> bool:
        connection.execute(text(f"set idle_session_timeout = {round(self._hanging_after_s * 1000)}"))
        elected = bool(connection.scalar(select(func.pg_try_advisory_lock(KEEPER_LOCK))))
        connection.commit()
        return elected

    def _do(self, task: _Task) -> None:
        if time.monotonic() < task.due:
            return
        task.due = time.monotonic() + task.every_s
        try:
            task.run()
        except Exception as error:
            if is_passing(error):
                raise  # without PostgreSQL there is nothing to keep
            # The broker is away, or one duty has a fault: that must not keep the others from being done.
            away = isinstance(error, BrokerAway)
            log.warning("duty_failed", duty=task.name, error=str(error), exc_info=None if away else error)
            task.due = time.monotonic() + max(task.every_s, AFTER_FAILURE_S)

    def _in_session(self, work: Callable[[Session], object]) -> Duty:
        def run() -> None:
            with self._database.session() as session:
                work(session)

        return run
