"""The job runtime with a real PostgreSQL, a real Valkey, a real Celery worker process and a real child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text

from libs.common.db.engine import Database
from libs.common.db.tables import JobEventRow, JobMetricRow, JobRow, ProjectRow
from libs.common.errors import IllegalTransition, LeaseLost
from libs.common.jobs import transitions
from libs.common.jobs.keeper import Keeper, take_from_lost_workers
from libs.common.jobs.queue import make_celery, ring
from migrations.upgrade import upgrade
from model_training.contracts.jobs import FINAL_STATES, JobKind, JobState
from tests.conftest import ROOT, Stores, free_ports


@contextmanager
def worker(stores: Stores) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process that is ready to take jobs."""
    url = f"http://127.0.0.1:{free_ports(1)}"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.jobs.toy_worker", url],
        cwd=ROOT,
        env={**os.environ, **stores.environment},
    )
    try:
        _wait(lambda: httpx.get(f"{url}/readyz").status_code == 200, ignore=httpx.HTTPError)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def keeper(stores: Stores, database: Database) -> Iterator[Keeper]:
    keeper = Keeper(database, partial(ring, make_celery(stores.settings.broker_url)), sweep_every_s=0.5)
    keeper.start()
    yield keeper
    keeper.stop()


@pytest.fixture(scope="module")
def running_worker(stores: Stores, keeper: Keeper) -> Iterator[subprocess.Popen[bytes]]:
    with worker(stores) as process:
        yield process


def submit(database: Database, **spec: Any) -> str:
    with database.session() as session:
        return transitions.create(
            session, JobKind.TRAIN, "proj_default", {"steps": 5, **spec}, max_attempts=3
        ).id


def read(database: Database, job_id: str) -> JobRow:
    with database.session() as session:
        return session.get_one(JobRow, job_id)


def wait_for(database: Database, job_id: str, *states: JobState, timeout_s: float = 30) -> JobRow:
    wanted = {state.value for state in states or FINAL_STATES}
    _wait(lambda: read(database, job_id).state in wanted, timeout_s)
    return read(database, job_id)


def events_of(database: Database, job_id: str) -> list[JobEventRow]:
    with database.session() as session:
        query = select(JobEventRow).where(JobEventRow.job_id == job_id).order_by(JobEventRow.sequence)
        return list(session.scalars(query))


def _wait(
    condition: Callable[[], bool],
    timeout_s: float = 30,
    ignore: type[Exception] | tuple[type[Exception], ...] = (),
) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except ignore:
            pass
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def assert_no_gap(rows: list[JobEventRow]) -> None:
    assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))


# These two come first: they kill and stop workers of their own, before the shared one is there to take their jobs.


def test_a_killed_worker_loses_its_job_to_another(stores: Stores, database: Database, keeper: Keeper) -> None:
    with worker(stores) as first:
        job_id = submit(database, steps=60, sleep_s=0.1)
        _wait(lambda: read(database, job_id).progress.get("step", 0) > 2)
        first.send_signal(signal.SIGKILL)
        first.wait()
        with worker(stores):
            job = wait_for(database, job_id)
    assert job.state == JobState.SUCCEEDED, job.error
    assert job.attempt == 2
    assert job.result is not None
    assert job.result["started_at_step"] > 0
    assert_no_gap(events_of(database, job_id))


def test_a_worker_that_is_told_to_stop_gives_its_job_back(
    stores: Stores, database: Database, keeper: Keeper
) -> None:
    with worker(stores) as first:
        job_id = submit(database, steps=60, sleep_s=0.05)
        wait_for(database, job_id, JobState.RUNNING)
    assert first.returncode == 0
    assert read(database, job_id).attempt == 0
    assert read(database, job_id).state == JobState.QUEUED
    with worker(stores):
        job = wait_for(database, job_id)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)


@pytest.mark.usefixtures("running_worker")
def test_a_job_runs_to_its_result(database: Database) -> None:
    job = wait_for(database, job_id := submit(database))
    assert job.state == JobState.SUCCEEDED, job.error
    assert job.result == {"steps": 5, "started_at_step": 0, "published": True}
    assert (job.attempt, job.lease_owner, job.progress["fraction"]) == (1, None, 1.0)
    rows = events_of(database, job_id)
    assert_no_gap(rows)
    assert [row.data["step"] for row in rows if row.type == "stored"] == [0, 1, 2, 3, 4]
    assert [row.data["state"] for row in rows if row.type == "state"] == ["queued", "running", "succeeded"]
    with database.session() as session:
        assert len(session.scalars(select(JobMetricRow).where(JobMetricRow.job_id == job_id)).all()) == 5


@pytest.mark.usefixtures("running_worker")
def test_a_second_delivery_does_nothing(stores: Stores, database: Database) -> None:
    job_id = submit(database, sleep_s=0.1)
    wait_for(database, job_id, JobState.RUNNING)
    for _ in range(3):
        ring(make_celery(stores.settings.broker_url), "train", job_id)
    wait_for(database, job_id)
    after = wait_for(database, submit(database))  # the worker has passed the three duplicates
    assert after.state == JobState.SUCCEEDED
    stored = [row.data["step"] for row in events_of(database, job_id) if row.type == "stored"]
    assert stored == [0, 1, 2, 3, 4]
    assert read(database, job_id).attempt == 1


@pytest.mark.usefixtures("running_worker")
def test_a_child_that_is_killed_is_tried_again_and_goes_on(database: Database) -> None:
    job = wait_for(database, job_id := submit(database, fault="die"))
    assert job.state == JobState.SUCCEEDED, job.error
    assert (job.attempt, job.result["started_at_step"]) == (2, 2)  # type: ignore[index]
    rows = events_of(database, job_id)
    assert_no_gap(rows)
    assert any("signal 9" in row.message for row in rows if row.level == "warn")


@pytest.mark.usefixtures("running_worker")
@pytest.mark.parametrize(
    ("fault", "code", "blame", "attempts"),
    [
        ("fail", "bad_data", "user", 1),
        ("crash", "internal_error", "system", 1),
        ("die_always", "child_lost", "system", 3),
        ("unpreparable", "invalid_input", "user", 1),
    ],
)
def test_a_failure_says_why_and_who_can_mend_it(
    database: Database, fault: str, code: str, blame: str, attempts: int
) -> None:
    job = wait_for(database, submit(database, fault=fault))
    assert job.state == JobState.FAILED
    assert job.error is not None
    assert (job.error["code"], job.error["blame"], job.attempt) == (code, blame, attempts)


@pytest.mark.usefixtures("running_worker")
def test_cancel_and_pause_are_honoured(database: Database) -> None:
    job_id = submit(database, steps=50, sleep_s=0.05)
    wait_for(database, job_id, JobState.RUNNING)
    with database.session() as session:
        transitions.request_pause(session, transitions.locked(session, job_id))
    paused = wait_for(database, job_id, JobState.PAUSED)
    assert paused.lease_owner is None
    with database.session() as session:
        transitions.resume(session, transitions.locked(session, job_id))
    wait_for(database, job_id, JobState.RUNNING)
    with database.session() as session:
        transitions.request_cancel(session, transitions.locked(session, job_id))
    assert wait_for(database, job_id).state == JobState.CANCELLED
    assert_no_gap(events_of(database, job_id))


@pytest.fixture
def own_database(stores: Stores, database: Database) -> Iterator[Database]:
    """A database that no other keeper works on: election is per database."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("create database keeper_test"))
    url = stores.settings.database_url.replace("/postgres?", "/keeper_test?")
    upgrade(url)
    own = Database(url)
    with own.session() as session:
        session.add(ProjectRow(id="proj_default", name="default"))
    yield own
    own.close()


def test_a_keeper_that_stops_lets_another_one_be_elected(own_database: Database) -> None:
    rung: list[str] = []
    for _ in range(2):  # on the same pool of connections
        keeper = Keeper(own_database, lambda queue, job_id: rung.append(job_id))
        keeper.start()
        with own_database.session() as session:
            job_id = transitions.create(session, JobKind.COMPARE, "proj_default", {}).id
        _wait(lambda wanted=job_id: wanted in rung, timeout_s=10)
        keeper.stop()


def test_a_zombie_writes_nothing(database: Database) -> None:
    with database.session() as session:
        job_id = transitions.create(session, JobKind.COMPARE, "proj_default", {}).id
    with database.session() as session:
        zombie = transitions.claim(session, job_id, "zombie", lease_s=0.0)
    assert zombie is not None
    old_fence = zombie.fence
    with database.session() as session:
        assert take_from_lost_workers(session) >= 1
    with database.session() as session:
        claimed = transitions.claim(session, job_id, "heir", lease_s=60.0)
        assert claimed is not None
        assert claimed.fence == old_fence + 1
    with pytest.raises(LeaseLost), database.session() as session:
        transitions.fenced(session, job_id, old_fence)
    with database.session() as session:
        transitions.succeed(session, transitions.fenced(session, job_id, old_fence + 1), {})


@pytest.mark.parametrize("state", list(JobState))
def test_only_listed_transitions_are_legal(database: Database, state: JobState) -> None:
    with database.session() as session:
        job = transitions.create(session, JobKind.COMPARE, "proj_default", {})
        session.flush()
        refusals: list[str] = []
        for request in (transitions.request_pause, transitions.request_cancel, transitions.resume):
            job.state = state.value
            before = job.state
            try:
                request(session, job)
            except IllegalTransition as error:
                refusals.append(error.detail)
                assert job.state == before
            else:
                assert job.state == before or JobState(job.state) in transitions.LEGAL[state]
        assert all(state.value in refusal for refusal in refusals)
        session.rollback()
