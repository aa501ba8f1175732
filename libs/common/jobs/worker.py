"""A worker process: takes jobs of one kind, runs each in a child, and writes what the child says under the job's fence."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any, Protocol

import structlog
from celery.worker import state as celery_state
from fastapi import FastAPI
from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import JobMetricRow, JobRow
from libs.common.errors import JobFailure, LeaseLost, PlatformError
from libs.common.jobs import events, transitions
from libs.common.jobs.process import ChildProcess
from libs.common.jobs.queue import TASK, make_celery
from libs.common.service import BackgroundServer
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

POLL_S = 0.25
CANCEL_GRACE_S = 10.0
PAUSE_GRACE_S = 300.0  # writing a checkpoint may take a while


class JobHandler(Protocol):
    """What a service adds to the runtime for its kind of job. Every method runs inside one transaction."""

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


class JobRunner:
    """Runs one job at a time."""

    def __init__(self, handler: JobHandler, database: Database, settings: PlatformSettings) -> None:
        self._handler = handler
        self._database = database
        self._settings = settings
        self._owner = f"{socket.gethostname()}:{os.getpid()}"

    def run(self, job_id: str) -> None:
        """Claim the job and see it through. Does nothing if it is not there to be claimed."""
        with self._database.session() as session:
            job = transitions.claim(session, job_id, self._owner, self._settings.lease_s)
        if job is None:
            log.info("nothing_to_claim", job_id=job_id)
            return
        kind = self._handler.kind.value
        with structlog.contextvars.bound_contextvars(job_id=job_id), RUNNING.labels(kind).track_inprogress():
            started = time.monotonic()
            outcome = self._attempt(job)
            SECONDS.labels(kind).observe(time.monotonic() - started)
            ENDED.labels(kind, outcome).inc()
            log.info("attempt_ended", outcome=outcome, attempt=job.attempt)

    def _attempt(self, job: JobRow) -> str:
        try:
            with self._database.session() as session:
                spec = self._handler.prepare(session, transitions.fenced(session, job.id, job.fence))
        except (PlatformError, JobFailure) as error:
            failure = error if isinstance(error, JobFailure) else JobFailure.of(error)
            return self._end(job, {"type": "failure", "error": failure.as_dict()})
        except LeaseLost:
            return "lease_lost"
        child = ChildProcess(self._handler.child_module, self._order(job, spec), self._log_path(job.id))
        try:
            return Attempt(self, job, child).follow()
        except LeaseLost:
            log.warning("lease_lost")
            return "lease_lost"
        finally:
            child.close()

    def _order(self, job: JobRow, spec: dict[str, Any]) -> dict[str, Any]:
        return {
            "job_id": job.id,
            "attempt": job.attempt,
            "fence": job.fence,
            "spec": spec,
            "workdir": str(self._settings.home / "jobs" / job.id),
            "lease_s": self._settings.lease_s,
        }

    def _log_path(self, job_id: str) -> Path:
        return self._settings.home / "logs" / "jobs" / f"{job_id}.log"

    def relay(self, job: JobRow, messages: list[dict[str, Any]]) -> transitions.Stop | None:
        """Write messages and renew the lease in one transaction; says whether the job should stop.

        Raises:
            LeaseLost: the job is no longer this worker's; nothing was written.
        """
        with self._database.session() as session:
            row = transitions.fenced(session, job.id, job.fence)
            for message in messages:
                self._write(session, row, message)
            if messages:
                events.notify(session, row.id)
            return transitions.heartbeat(session, row.id, row.fence, self._settings.lease_s)

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

    def _end(self, job: JobRow, message: dict[str, Any]) -> str:
        """Write the last message of an attempt. Publishing and the change of state are one transaction."""
        try:
            with self._database.session() as session:
                row = transitions.fenced(session, job.id, job.fence)
                return self._conclude(session, row, message)
        except (PlatformError, JobFailure) as error:
            failure = error if isinstance(error, JobFailure) else JobFailure.of(error)
            with self._database.session() as session:
                transitions.fail(session, transitions.fenced(session, job.id, job.fence), failure.error)
            return "failed"

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
            case {"type": "lost", "error": error}:
                transitions.lose(session, row, JobError.model_validate(error))
                return "lost"
            case {"type": "failure", "error": error, "retry": True}:
                transitions.lose(session, row, JobError.model_validate(error))
                return "retried"
            case {"error": error}:
                transitions.fail(session, row, JobError.model_validate(error))
                return "failed"
            case _:
                raise AssertionError(f"not a last message: {message}")

    def end(self, job: JobRow, message: dict[str, Any]) -> str:
        """Conclude an attempt; see `_end`."""
        return self._end(job, message)


LAST = frozenset({"result", "stopped", "failure"})


class Attempt:
    """Follows one child to its end."""

    def __init__(self, runner: JobRunner, job: JobRow, child: ChildProcess) -> None:
        self._runner = runner
        self._job = job
        self._child = child
        self._stop: transitions.Stop | None = None
        self._stop_deadline = float("inf")
        self._leaving = False
        self._renewed = 0.0

    def follow(self) -> str:
        """Relay until the child says its last word or ends without one; returns the outcome's name."""
        while True:
            messages = self._child.receive(POLL_S)
            last = next((m for m in messages if m.get("type") in LAST), None)
            spoken = [m for m in messages if m.get("type") not in LAST]
            if spoken or time.monotonic() - self._renewed > 1.0:
                self._ask_to_stop(self._runner.relay(self._job, spoken))
                self._child.send({"type": "lease"})
                self._renewed = time.monotonic()
            if last is not None:
                return self._runner.end(self._job, self._as_released(last))
            if self._child.ended():
                return self._runner.end(self._job, self._without_last_word())
            if time.monotonic() > self._stop_deadline:
                self._child.kill()

    def _ask_to_stop(self, wanted: transitions.Stop | None) -> None:
        if wanted is None and celery_state.should_stop is not None and celery_state.should_stop is not False:
            wanted, self._leaving = "pause", True
        if wanted is None or wanted == self._stop:
            return
        self._stop = wanted
        grace_s = CANCEL_GRACE_S if wanted == "cancel" else PAUSE_GRACE_S
        self._stop_deadline = time.monotonic() + grace_s
        self._child.send({"type": "stop", "reason": wanted})

    def _as_released(self, last: dict[str, Any]) -> dict[str, Any]:
        return {"type": "released"} if self._leaving and last["type"] == "stopped" else last

    def _without_last_word(self) -> dict[str, Any]:
        code = self._child.returncode
        if self._stop == "cancel":
            return {"type": "stopped"}
        if self._leaving:
            return {"type": "released"}
        error = JobError(
            code="child_lost",
            message=f"The process that did the work ended without an answer ({_reason(code)}).",
            hint="Exit by signal 9 usually means that the machine ran out of memory; the job's log has the details.",
        )
        return {"type": "lost", "error": error.model_dump(mode="json")}


def _reason(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def run_worker(
    handler: JobHandler, app: FastAPI, settings: PlatformSettings, database: Database, *, url: str
) -> None:
    """Serve the application on a thread and take jobs in this one, until SIGTERM.

    Args:
        app: the service's HTTP application (`libs.common.service.create_app`).
        url: where it listens.
    """
    http = BackgroundServer(app, url)
    http.start()
    celery = make_celery(settings.broker_url)
    runner = JobRunner(handler, database, settings)
    celery.task(name=TASK)(runner.run)
    worker = celery.Worker(
        pool="solo",
        queues=[handler.kind.value],
        hostname=f"{handler.kind.value}@{socket.gethostname()}-{os.getpid()}",
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    try:
        worker.start()
    finally:
        http.stop()
        database.close()
