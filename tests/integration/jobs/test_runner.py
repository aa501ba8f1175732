"""The loop around a child, in this process: real PostgreSQL, real children, no Celery. Every way that an attempt may end."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import JobRow
from libs.common.jobs import transitions
from libs.common.jobs.keeper import take_from_lost_workers
from libs.common.jobs.process import ChildProcess
from libs.common.jobs.runner import JobRunner
from model_training.contracts.jobs import JobKind, JobState
from tests.conftest import Stores
from tests.integration.jobs.helpers import assert_no_gap, events_of, read, submit, wait
from tests.integration.jobs.toy_worker import ToyHandler


class Handler(ToyHandler):
    """Takes jobs of a kind that no other test's worker takes."""

    kind = JobKind.COMPARE


def runner(stores: Stores, database: Database, **settings: Any) -> JobRunner:
    return JobRunner(Handler(), database, stores.settings.model_copy(update=settings))


def run(runner: JobRunner, database: Database, **spec: Any) -> JobRow:
    """A job after as many attempts as it takes."""
    job_id = submit(database, kind=JobKind.COMPARE, **spec)
    runner.run()
    return read(database, job_id)


@pytest.fixture(autouse=True)
def empty_queue(database: Database) -> None:
    with database.session() as session:
        for job in session.query(JobRow).where(JobRow.kind == "compare", JobRow.finished_at.is_(None)):
            transitions.request_cancel(session, job)


def stored_steps(database: Database, job: JobRow) -> list[int]:
    return [row.data["step"] for row in events_of(database, job.id) if row.type == "stored"]


def children() -> list[psutil.Process]:
    """Processes that do a job's work; one that has ended and was not waited for is none."""
    return [p for p in psutil.Process().children(recursive=True) if Handler.child_module in command(p)]


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # a zombie is one too
        return []


@pytest.mark.parametrize("fault", ["die", "die_with_heirs"])
def test_a_child_that_is_killed_is_tried_again_and_goes_on(
    stores: Stores, database: Database, fault: str
) -> None:
    job = run(runner(stores, database), database, fault=fault)
    assert job.state == JobState.SUCCEEDED, job.error
    assert (job.attempt, job.result["started_at_step"]) == (2, 2)  # type: ignore[index]
    rows = events_of(database, job.id)
    assert_no_gap(rows)
    assert any("signal 9" in row.message for row in rows if row.level == "warn")
    assert stored_steps(database, job) == [0, 1, 2, 3, 4]


def test_a_child_that_is_held_by_a_signal_is_ended(stores: Stores, database: Database) -> None:
    job = run(runner(stores, database, lease_s=1.0), database, fault="stop")
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    assert any("stop signal" in row.message for row in events_of(database, job.id))


def test_a_child_that_hangs_after_its_last_word_is_ended(stores: Stores, database: Database) -> None:
    job = run(runner(stores, database), database, fault="hang_after_last_word")
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)
    assert children() == []


def test_text_that_postgresql_refuses_is_replaced(stores: Stores, database: Database) -> None:
    job = run(runner(stores, database), database, fault="odd_text")
    assert job.state == JobState.SUCCEEDED, job.error
    odd = next(row for row in events_of(database, job.id) if "half a pair" in row.message)
    assert odd.message == "a null \ufffd and half a pair ?"
    assert odd.data == {"?": ["\ufffd", None]}


@pytest.mark.parametrize(
    ("fault", "settings", "code", "blame", "attempts"),
    [
        ("fail", {}, "bad_data", "user", 1),
        ("crash", {}, "internal_error", "system", 1),
        ("die_always", {}, "child_lost", "system", 3),
        ("unpreparable", {}, "invalid_input", "user", 1),
        ("bug_in_prepare", {}, "internal_error", "system", 1),
        ("bad_output", {}, "internal_error", "system", 1),
        ("fill_disk", {}, "disk_full", "system", 1),
        ("eat_memory", {"job_memory_limit_bytes": 250_000_000}, "out_of_memory", "user", 1),
        ("deaf", {"job_timeout_s": 1.0}, "timeout", "user", 1),
    ],
)
def test_a_failure_says_why_and_who_can_mend_it(
    stores: Stores,
    database: Database,
    fault: str,
    settings: dict[str, Any],
    code: str,
    blame: str,
    attempts: int,
) -> None:
    job = run(runner(stores, database, **settings), database, fault=fault)
    assert job.state == JobState.FAILED
    assert job.error is not None
    assert (job.error["code"], job.error["blame"], job.attempt) == (code, blame, attempts)
    reasons = [row.data["error"]["code"] for row in events_of(database, job.id) if "error" in row.data]
    assert reasons == [code] * attempts
    assert code != "timeout" or "1 s" in job.error["message"]


class Flaky(Database):
    """A connection that breaks around the commit of every third transaction; whether it landed is not said."""

    def __init__(self, url: str, *, after: bool) -> None:
        super().__init__(url)
        self._after = after
        self.broken = 0
        self._count = 0

    @contextmanager
    def session(self) -> Generator[Session]:
        """A transaction that lands and says that it did not, or does not land."""
        self._count += 1
        breaks = self._count % 3 == 0
        self.broken += breaks
        with super().session() as session:
            yield session
            if breaks and not self._after:
                raise _gone()
        if breaks and self._after:
            raise _gone()


def _gone() -> OperationalError:
    return OperationalError("commit", None, Exception("server closed the connection unexpectedly"))


@pytest.mark.parametrize("after", [True, False], ids=["after the commit", "before the commit"])
def test_what_a_child_said_is_written_once_though_connections_break(
    stores: Stores, database: Database, after: bool
) -> None:
    flaky = Flaky(stores.settings.database_url, after=after)
    job_id = submit(database, kind=JobKind.COMPARE, steps=12, sleep_s=0.1)
    for _ in range(5):  # a claim whose answer is lost costs an attempt, nothing else may
        runner(stores, flaky, lease_s=1.0).run()
        if read(database, job_id).finished_at is not None:
            break
        wait(lambda: _swept(database) or read(database, job_id).state != "running", timeout_s=60)
    flaky.close()
    job = read(database, job_id)
    assert job.state == JobState.SUCCEEDED, job.error
    assert flaky.broken > 3
    assert stored_steps(database, job) == list(range(12))
    rows = events_of(database, job_id)
    assert_no_gap(rows)
    assert sum(row.type == "published" for row in rows) == 1
    assert sum(row.type == "counted" for row in rows) == 1


def _swept(database: Database) -> bool:
    with database.session() as session:
        return take_from_lost_workers(session) > 0


def test_a_worker_that_slept_past_its_lease_writes_nothing(stores: Stores, database: Database) -> None:
    # So many steps that the job cannot end before it is taken away, however long this process stalls.
    job_id = submit(database, kind=JobKind.COMPARE, steps=1000, sleep_s=0.1)
    written: list[int] = []

    def sleep_once() -> bool:
        """Asked between two transactions of the worker. Its lease runs out without waiting for it."""
        stored = stored_steps(database, read(database, job_id))
        if stored and not written:
            written.extend(stored)
            with database.session() as session:
                session.get_one(JobRow, job_id).lease_expires_at = datetime(2000, 1, 1, tzinfo=UTC)
            with database.session() as session:
                assert take_from_lost_workers(session) >= 1
            with database.session() as session:
                assert transitions.claim(session, job_id, "heir", 3600.0) is not None
        return False

    settings = stores.settings.model_copy(update={"lease_s": 120.0})
    JobRunner(Handler(), database, settings, sleep_once).run_one()
    job = read(database, job_id)
    assert (job.state, job.lease_owner, job.fence) == ("running", "heir", 2)
    assert stored_steps(database, job) == written
    assert not [row for row in events_of(database, job_id) if row.type in ("counted", "published")]
    assert children() == []


def test_a_worker_that_hangs_in_a_transaction_loses_its_job_too(stores: Stores) -> None:
    database = Database(stores.settings.database_url)
    database.end_idle_transactions(after_s=0.3)
    job_id = submit(database, kind=JobKind.COMPARE)
    with database.session() as session:
        assert transitions.claim(session, job_id, "hanging", lease_s=0.1) is not None
    with Session(database.engine) as hanging:
        transitions.locked(hanging, job_id)  # from here on it does nothing
        wait(lambda: _swept(database), timeout_s=60)
        with pytest.raises(DBAPIError):
            hanging.execute(select(1))
    assert read(database, job_id).state == JobState.QUEUED
    database.close()


def test_a_child_ends_itself_when_its_lease_is_over(stores: Stores) -> None:
    order = {"job_id": "ftjob_x", "attempt": 1, "fence": 1, "spec": {"steps": 9, "done": [], "sleep_s": 60}}
    order |= {"workdir": str(stores.settings.home / "jobs" / "x"), "until": time.monotonic() + 1.5}
    child = ChildProcess(Handler.child_module, order, stores.settings.home / "x.log")
    try:
        started = time.monotonic()
        wait(child.ended, timeout_s=60)
        assert child.returncode == 3
        assert 1.0 < time.monotonic() - started < 30  # the step that it is in takes a minute
    finally:
        child.close()
