"""Takes jobs of one kind and writes what their children say, each time in one transaction under the job's fence."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from libs.common import tracing
from libs.common.db.engine import Database
from libs.common.db.tables import JobMetricRow, JobRow
from libs.common.errors import LeaseLost
from libs.common.jobs import events, scheduling, transitions
from libs.common.jobs.attempt import Attempt
from libs.common.jobs.device_turn import WAITING, DeviceTurn
from libs.common.jobs.failures import failure_of
from libs.common.jobs.limits import Limits
from libs.common.jobs.patience import is_passing, patiently
from libs.common.jobs.process import ChildProcess
from libs.common.jobs.storable import storable
from libs.common.settings import PlatformSettings
from model_training.contracts.jobs import JobError, JobKind

log = structlog.get_logger(__name__)

RUNNING = Gauge("mt_jobs_running", "Jobs that this worker runs now.", ["kind"])
ENDED = Counter("mt_jobs_ended_total", "Attempts that ended, by how.", ["kind", "outcome"])
SECONDS = Histogram(
    "mt_job_attempt_seconds",
    "Length of attempts.",
    ["kind"],
    buckets=(1, 5, 15, 60, 300, 1800, 7200, 28800, 86400),
)

CLAIM_PATIENCE_S = 60.0
LAST_WORD_PATIENCE_S = 300.0
"""How long a result waits for PostgreSQL. The fence, not the lease, says whether it may still be written."""

PUBLISHING_S = 900.0
"""How long `JobHandler.finish` may leave its transaction idle: it may copy an artifact meanwhile."""

Result = TypeVar("Result")


class JobHandler(Protocol):
    """What a service adds to the runtime for its kind of job. Every method runs inside one transaction.

    A transaction that breaks is run again, so a method may be called twice; what it wrote to the database counts once.
    """

    kind: JobKind
    child_module: str

    def prepare(self, session: Session, job: JobRow) -> dict[str, Any]:
        """Turn the job's spec into what the child needs (paths instead of ids).

        Raises:
            PlatformError, JobFailure: the job cannot run; it fails with that reason.
        """
        ...

    def store(self, session: Session, job: JobRow, name: str, data: dict[str, Any]) -> None:
        """Store one output of the child. May be called again with the same data after a lost attempt."""
        ...

    def finish(self, session: Session, job: JobRow, result: dict[str, Any]) -> dict[str, Any]:
        """Publish the child's result and return what becomes the job's result."""
        ...


@dataclass
class Held:
    """A job that this worker holds.

    `until` is when the lease ends by `time.monotonic()`, reckoned from before it was granted, so that it is over here no
    later than in the database. `expires_at` is what the database says; nobody but the holder of the fence changes it.
    """

    job: JobRow
    until: float
    expires_at: datetime | None
    news: dict[str, Any] | None = None
    """What the child should know of others who work on its job; told with each renewal."""


class JobRunner:
    """Runs one job at a time."""

    def __init__(
        self,
        handler: JobHandler,
        database: Database,
        settings: PlatformSettings,
        leaving: Callable[[], bool] = lambda: False,
    ) -> None:
        """Args:
        leaving: whether the process was asked to stop; a running job is then asked to pause and goes back to the queue.
        """
        self._handler = handler
        self._database = database
        self._settings = settings
        self.leaving = leaving
        needed = settings.shared_devices if handler.kind is JobKind.TRAIN else ()
        self._turn = DeviceTurn(needed, settings.lease_s)
        self._owner = f"{socket.gethostname()}:{os.getpid()}"

    def run(self, job_id: str | None = None) -> None:
        """Take jobs until none is left.

        Args:
            job_id: the job that the doorbell rang for. It says only that there is work; the best job is taken.
        """
        while not self.leaving() and self.run_one():
            pass

    def run_one(self) -> bool:
        """Claim the best job and see it through. False if there was none, or PostgreSQL stayed away."""
        try:
            held = patiently(self._claim, time.monotonic() + CLAIM_PATIENCE_S)
        except DBAPIError as error:
            log.error("claim_failed", exc_info=error)  # the keeper rings again
            return False
        if held is None:
            log.info("nothing_to_claim", kind=self._handler.kind.value)
            return False
        kind = self._handler.kind.value
        job = held.job
        with (
            structlog.contextvars.bound_contextvars(job_id=job.id),
            RUNNING.labels(kind).track_inprogress(),
            _traced(job) as note,
        ):
            started = time.monotonic()
            outcome = self._outcome(held)
            note("mt.job.outcome", outcome)
            SECONDS.labels(kind).observe(time.monotonic() - started)
            ENDED.labels(kind, outcome).inc()
            log.info("attempt_ended", outcome=outcome, attempt=job.attempt)
        return True

    def _claim(self) -> Held | None:
        started = time.monotonic()
        with self._database.session() as session:
            job = scheduling.claim(session, self._handler.kind, self._owner, self._settings.lease_s)
        if job is None:
            return None
        return Held(job, started + self._settings.lease_s, job.lease_expires_at)

    def _outcome(self, held: Held) -> str:
        """Run one attempt to its end, whatever happens; the job is never left without an answer that we could give."""
        try:
            return self._attempt(held)
        except LeaseLost:
            log.warning("lease_lost")
        except DBAPIError as error:
            if not is_passing(error):
                return self._failed(held, error)
            log.error("database_stayed_away", exc_info=error)
        except Exception as error:
            return self._failed(held, error)
        return "lease_lost"

    def _failed(self, held: Held, error: Exception) -> str:
        failure = failure_of(error)
        if failure.error.code == "internal_error":
            log.error("attempt_failed", exc_info=error)
        try:
            return self.end(
                held, {"type": "failure", "error": storable(failure.as_dict()), "retry": failure.retry}
            )
        except Exception as again:
            log.error("failure_not_written", exc_info=again)
            return "lease_lost"  # it runs out, and the keeper takes the job

    def _attempt(self, held: Held) -> str:
        spec = patiently(lambda: self._prepare(held), held.until)
        try:
            return self._wait_for_devices(held) or self._follow_child(held, spec)
        finally:
            self._free_devices(held)

    def _wait_for_devices(self, held: Held) -> str | None:
        """Wait until the cards are the job's; the outcome, if it is stopped before."""
        said: str | None = None
        if not self._turn.is_needed:
            return None
        while (reason := self._take_devices(held, said)) is not None:
            stop = self.relay(held, [])
            if self.leaving():
                return self.end(held, {"type": "released"})
            if stop is not None:
                return self.end(held, {"type": "stopped"})
            said = reason
            time.sleep(self.renew_every_s)
        return None

    def _take_devices(self, held: Held, said: str | None) -> str | None:
        def take() -> str | None:
            with self._database.session() as session:
                row = transitions.fenced(session, held.job.id, held.job.fence)
                reason = self._turn.take(session, row)
                if reason is not None and reason != said:
                    row.progress = {**(row.progress or {}), "message": reason}
                    events.append(session, row, reason, type=WAITING)
                    events.notify(session, row.id)
                return reason

        return patiently(take, held.until)

    def _free_devices(self, held: Held) -> None:
        """What cannot be let go of now runs out by itself."""
        if self._turn.is_needed:
            with contextlib.suppress(DBAPIError), self._database.session() as session:
                self._turn.free(session, held.job)

    def _follow_child(self, held: Held, spec: dict[str, Any]) -> str:
        child = ChildProcess(self._handler.child_module, self._order(held, spec), self._log_path(held.job.id))
        try:
            return Attempt(self, held, child, self._limits()).follow()
        except BaseException:
            child.kill()  # before anything else is written of the job
            raise
        finally:
            child.close()

    def _prepare(self, held: Held) -> dict[str, Any]:
        started = time.monotonic()
        with self._database.session() as session:
            row = transitions.fenced(session, held.job.id, held.job.fence)
            spec = self._handler.prepare(session, row)
            transitions.renew(session, row, self._settings.lease_s)
        self._grant(held, started, row)
        return spec

    def _grant(self, held: Held, started: float, row: JobRow) -> None:
        held.until, held.expires_at = started + self._settings.lease_s, row.lease_expires_at

    def _order(self, held: Held, spec: dict[str, Any]) -> dict[str, Any]:
        job = held.job
        return {
            "job_id": job.id,
            "attempt": job.attempt,
            "fence": job.fence,
            "spec": spec,
            "workdir": str(self._settings.home / "jobs" / job.id),
            "until": held.until,
            "traceparent": tracing.context(),
        }

    def _limits(self) -> Limits:
        settings = self._settings
        return Limits(settings.job_timeout_s, settings.job_memory_limit_bytes, settings.lease_s)

    def _log_path(self, job_id: str) -> Path:
        return self._settings.home / "logs" / "jobs" / f"{job_id}.log"

    @property
    def renew_every_s(self) -> float:
        """How often the lease is renewed when the child says nothing."""
        return min(1.0, self._settings.lease_s / 4)

    def relay(self, held: Held, messages: list[dict[str, Any]]) -> transitions.Stop | None:
        """Write messages and renew the lease in one transaction; says whether the job should stop.

        PostgreSQL may be away for as long as the lease lasts: the messages are written once, when it is back.

        Raises:
            LeaseLost: the job is no longer this worker's; nothing was written.
            DBAPIError: PostgreSQL was away until the lease was over.
        """
        return patiently(lambda: self._relay(held, messages), held.until)

    def _relay(self, held: Held, messages: list[dict[str, Any]]) -> transitions.Stop | None:
        started = time.monotonic()
        with self._database.session() as session:
            row = transitions.fenced(session, held.job.id, held.job.fence)
            # Where the lease is not the one that we know of, the last transaction landed although its connection broke.
            if row.lease_expires_at == held.expires_at:
                for message in messages:
                    self._write(session, row, message)
                if messages:
                    events.notify(session, row.id)
            transitions.renew(session, row, self._settings.lease_s)
            self._turn.take(session, row)
            held.news = self.news(session, row)
            stop = transitions.stop_of(row)
        self._grant(held, started, row)
        return stop

    def news(self, session: Session, job: JobRow) -> dict[str, Any] | None:
        """What the child should know of others who work on its job; None where nobody may."""
        return None

    def _write(self, session: Session, job: JobRow, message: dict[str, Any]) -> None:
        match message:
            case {"type": "event", "event": type_, "level": level, "message": text, "data": data}:
                events.append(session, job, text, type=type_, level=level, data=data)
            case {"type": "progress", **progress}:
                job.progress = progress
            case {"type": "metrics", "step": step, "values": values}:
                row = insert(JobMetricRow).values(job_id=job.id, step=step, values=values)
                session.execute(
                    row.on_conflict_do_update(index_elements=["job_id", "step"], set_={"values": values})
                )
            case {"type": "output", "name": name, "data": data}:
                self._handler.store(session, job, name, data)
            case _:
                log.warning("unknown_message", message_type=message.get("type"))

    def end(self, held: Held, message: dict[str, Any]) -> str:
        """Write the last message of an attempt. Publishing and the change of state are one transaction.

        Raises:
            LeaseLost: the job is no longer this worker's.
            DBAPIError: PostgreSQL was away for minutes.
            Exception: what the handler's `finish` raised; nothing was written.
        """

        def write() -> str:
            with self._database.session() as session:
                session.execute(
                    text(f"set local idle_in_transaction_session_timeout = '{PUBLISHING_S:.0f}s'")
                )
                row = transitions.fenced(session, held.job.id, held.job.fence)
                return self._conclude(session, row, message)

        return patiently(write, time.monotonic() + LAST_WORD_PATIENCE_S)

    def _conclude(self, session: Session, row: JobRow, message: dict[str, Any]) -> str:
        match message:
            case {"type": "result", "data": data}:
                transitions.succeed(session, row, self._handler.finish(session, row, data))
                return "succeeded"
            case {"type": "stopped"}:
                transitions.stopped(session, row)
                return "stopped"
            case {"type": "released"}:
                transitions.release(session, row, "The worker is shutting down; the job is queued again.")
                return "released"
            case {"type": "failure", "error": error, "retry": True}:
                transitions.lose(session, row, JobError.model_validate(error))
                return "lost"
            case {"type": "failure", "error": error}:
                transitions.fail(session, row, JobError.model_validate(error))
                return "failed"
            case _:
                raise AssertionError(f"not a last message: {message}")


def _traced(job: JobRow) -> contextlib.AbstractContextManager[tracing.Note]:
    """The attempt's span, in the trace of the request that made the job; before the first lies the wait in the queue."""
    about = {"mt.job.id": job.id, "mt.job.kind": job.kind, "mt.job.attempt": job.attempt}
    if job.attempt == 1 and job.queued_at is not None:
        tracing.waited(f"queue {job.kind}", job.traceparent, job.queued_at, about)
    return tracing.span(f"attempt {job.kind}", job.traceparent, about)
