"""Helps with the shards of a job that another worker holds, when no job waits for this one.

A helper's child does the same work as the job's own, but every write is made under the shard that it belongs to: when that
is somebody else's by now, or the job has ended, nothing is written and the child stops.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import JobRow
from libs.common.errors import LeaseLost
from libs.common.jobs import events, shards, sharing, transitions
from libs.common.jobs.attempt import Attempt
from libs.common.jobs.limits import Limits
from libs.common.jobs.patience import patiently
from libs.common.jobs.process import ChildProcess
from libs.common.jobs.runner import CLAIM_PATIENCE_S, LAST_WORD_PATIENCE_S, Held, JobHandler, JobRunner
from libs.common.settings import PlatformSettings
from model_training.contracts.jobs import JobState

log = structlog.get_logger(__name__)

GOES_ON = frozenset({JobState.RUNNING.value, JobState.QUEUED.value})
"""States of a job whose shards are worth doing; it is queued after its own worker was lost."""


@runtime_checkable
class SharedHandler(JobHandler, Protocol):
    """A handler whose jobs several workers may do together."""

    def store_part(
        self, session: Session, job: JobRow, mine: list[shards.Shard], name: str, data: dict[str, Any]
    ) -> None:
        """Store one output of a helper's child. Raises LeaseLost where it belongs to none of the helper's shards."""
        ...

    def news(self, session: Session, job: JobRow, owner: str) -> dict[str, Any] | None:
        """What the child of a shard owner should know (`sharing.news`, and what the service adds)."""
        ...


class SharingRunner(JobRunner):
    """Runs jobs, and helps where none waits."""

    def __init__(
        self,
        handler: SharedHandler,
        database: Database,
        settings: PlatformSettings,
        leaving: Callable[[], bool],
    ) -> None:
        super().__init__(handler, database, settings, leaving)
        self._shared = handler
        self._hopeless: set[str] = set()

    def run(self, job_id: str | None = None) -> None:
        """Take jobs until none is left, and shards of others' jobs until none of these is."""
        while not self.leaving() and (self.run_one() or self._help_one()):
            pass

    def news(self, session: Session, job: JobRow) -> dict[str, Any] | None:
        """What the handler tells the child of the job's own worker."""
        return self._shared.news(session, job, sharing.owner_of(job))

    def _help_one(self) -> bool:
        """Help with one job as long as it has shards. False if there was none."""
        help = Help(self._shared, self._database, self._settings, self.leaving)
        try:
            outcome = help.run(self._hopeless)
        except (DBAPIError, LeaseLost) as error:
            log.warning("help_ended", why=str(error).partition("\n")[0])
            return False
        if outcome == "failed" and help.job_id is not None:
            self._hopeless.add(help.job_id)
        return outcome is not None


class Help:
    """One child that does shards of a job which another worker holds. Speaks to `Attempt` as a `JobRunner` does."""

    def __init__(
        self,
        handler: SharedHandler,
        database: Database,
        settings: PlatformSettings,
        leaving: Callable[[], bool],
    ) -> None:
        self._handler, self._database, self._settings = handler, database, settings
        self.leaving = leaving
        self.job_id: str | None = None
        self._heard = 0
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    @property
    def renew_every_s(self) -> float:
        """How often the leases are renewed when the child says nothing."""
        return min(1.0, self._settings.lease_s / 4)

    def run(self, besides: set[str]) -> str | None:
        """Take a shard and follow a child until it has done as many as it is given. None if there was no shard.

        Raises:
            LeaseLost: its shards are somebody else's; what was stored before stays.
            DBAPIError: PostgreSQL stayed away.
        """
        held = patiently(lambda: self._begin(besides), time.monotonic() + CLAIM_PATIENCE_S)
        if held is None:
            return None
        log.info("helping", job_id=held.job.id)
        workdir = self._settings.home / "jobs" / held.job.id / "helpers" / self._owner.rpartition(":")[2]
        try:
            return self._follow(held, str(workdir))
        finally:
            shutil.rmtree(workdir, ignore_errors=True)

    def _begin(self, besides: set[str]) -> Held | None:
        started, lease_s = time.monotonic(), self._settings.lease_s
        most = sharing.MAX_HELPERS_ATTEMPTS
        with self._database.session() as session:
            self.job_id = shards.open_job(session, self._handler.kind, max_attempts=most, besides=besides)
            if self.job_id is None:
                return None
            job = transitions.locked(session, self.job_id)
            if shards.claim(session, job.id, self._owner, lease_s, max_attempts=most, give_up=False) is None:
                return None
        return Held(job, started + lease_s, None)

    def _follow(self, held: Held, workdir: str) -> str:
        try:
            order = {
                "job_id": held.job.id,
                "attempt": held.job.attempt,
                "fence": held.job.fence,
                "spec": patiently(lambda: self._prepare(held), held.until),
                "workdir": workdir,
                "until": held.until,
            }
        except Exception as error:
            # What this worker lacks (a file, a package) the job's own may have.
            return self.end(held, {"type": "failure", "error": {"message": str(error)}})
        log_path = self._settings.home / "logs" / "jobs" / f"{held.job.id}.log"
        child = ChildProcess(self._handler.child_module, order, log_path)
        try:
            limits = Limits(
                self._settings.job_timeout_s, self._settings.job_memory_limit_bytes, self._settings.lease_s
            )
            return Attempt(self, held, child, limits).follow()
        except BaseException:
            child.kill()
            raise
        finally:
            child.close()

    def _prepare(self, held: Held) -> dict[str, Any]:
        with self._database.session() as session:
            job = transitions.locked(session, held.job.id)
            return {**self._handler.prepare(session, job), "is_helper": True}

    def relay(self, held: Held, messages: list[dict[str, Any]]) -> transitions.Stop | None:
        """Write messages under the shards that are still ours and renew their leases, in one transaction.

        Raises:
            LeaseLost: something was said about a shard that is not ours any more; nothing was written.
            DBAPIError: PostgreSQL was away until the leases were over.
        """
        return patiently(lambda: self._relay(held, messages), held.until)

    def _relay(self, held: Held, messages: list[dict[str, Any]]) -> transitions.Stop | None:
        started, lease_s = time.monotonic(), self._settings.lease_s
        with self._database.session() as session:
            job = transitions.locked(session, held.job.id)
            if job.state not in GOES_ON:
                return "cancel"
            mine = shards.renew_all(session, job.id, self._owner, lease_s)
            for message in messages:
                self._write(session, job, mine, message)
            news = self._handler.news(session, job, self._owner)
            held.news = {**news, "heard": self._heard} if news is not None else None
        held.until = started + lease_s
        return None

    def _write(
        self, session: Session, job: JobRow, mine: list[shards.Shard], message: dict[str, Any]
    ) -> None:
        """A helper's progress and its ordinary events are the job's own worker's to tell."""
        match message:
            case {"type": "output", "name": (sharing.WANT | sharing.DONE) as name, "data": data}:
                self._heard = data.get("number", self._heard)
                sharing.hear(session, job, self._owner, name, data, self._settings.lease_s)
            case {"type": "output", "name": name, "data": data}:
                self._handler.store_part(session, job, mine, name, data)
            case {"type": "event", "level": "warn" | "error", "message": text}:
                events.append(session, job, text, level="warn")
            case _:
                pass

    def end(self, held: Held, message: dict[str, Any]) -> str:
        """Let go of what is still held; says how it ended. Only what was lost or failed counts as an attempt."""
        is_loss = message["type"] == "failure"

        def write() -> None:
            with self._database.session() as session:
                job = transitions.locked(session, held.job.id)
                shards.release(session, job.id, self._owner, was_lost=is_loss)
                if is_loss and job.state in GOES_ON:
                    why = message["error"].get("message", "")
                    events.append(session, job, f"A helper gave up: {why}", level="warn")
                    events.notify(session, job.id)

        patiently(write, time.monotonic() + LAST_WORD_PATIENCE_S)
        return "failed" if is_loss else "helped"
