"""The job runtime with a real PostgreSQL, a real Valkey, a real Celery worker process and a real child."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from functools import partial

import pytest
from sqlalchemy import select

from libs.common.db.engine import Database
from libs.common.db.tables import JobMetricRow
from libs.common.jobs import transitions
from libs.common.jobs.keeper import Keeper
from libs.common.jobs.queue import make_celery, ring
from model_training.contracts.jobs import JobState
from tests.conftest import Stores
from tests.integration.jobs.helpers import assert_no_gap, events_of, read, submit, wait, wait_for, worker


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


# This one comes first: it kills and stops workers of its own, before the shared one is there to take their jobs.


def test_a_job_goes_from_a_killed_worker_to_one_that_leaves_to_a_third(
    stores: Stores, database: Database, keeper: Keeper, request: pytest.FixtureRequest
) -> None:
    with worker(stores) as killed:
        job_id = submit(database, steps=60, sleep_s=0.1)
        wait(lambda: read(database, job_id).progress.get("step", 0) > 2)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    with worker(stores) as leaving:
        wait_for(database, job_id, JobState.RUNNING)
        wait(lambda: read(database, job_id).fence == 2)
    assert leaving.returncode == 0
    given_back = read(database, job_id)
    assert (given_back.state, given_back.attempt) == (
        JobState.QUEUED,
        1,
    )  # a worker that leaves costs no attempt
    request.getfixturevalue("running_worker")
    job = wait_for(database, job_id)
    assert (job.state, job.attempt, job.fence) == (JobState.SUCCEEDED, 2, 3)
    assert job.result is not None
    assert job.result["started_at_step"] > 2
    assert_no_gap(events_of(database, job_id))


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
        metrics = session.scalars(select(JobMetricRow).where(JobMetricRow.job_id == job_id)).all()
    assert len(metrics) == 5
    assert {name for point in metrics for name in point.values} == {"value"}  # NaN is not stored


@pytest.mark.usefixtures("running_worker")
def test_a_second_delivery_does_nothing(stores: Stores, database: Database) -> None:
    job_id = submit(database, sleep_s=0.1)
    wait_for(database, job_id, JobState.RUNNING)
    for _ in range(3):
        ring(make_celery(stores.settings.broker_url), "train", [job_id])
    wait_for(database, job_id)
    after = wait_for(database, submit(database))  # the worker has passed the three duplicates
    assert after.state == JobState.SUCCEEDED
    stored = [row.data["step"] for row in events_of(database, job_id) if row.type == "stored"]
    assert stored == [0, 1, 2, 3, 4]
    assert read(database, job_id).attempt == 1


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
