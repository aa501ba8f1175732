"""One evaluation on two workers, one of which is killed in the middle: the numbers are those of one alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import psutil
import pytest
from sqlalchemy import select

from libs.common.db.engine import Database
from libs.common.db.tables import EvaluationItemRow, JobRow, JobShardRow
from libs.common.jobs import shards
from libs.common.jobs.keeper import Keeper
from libs.common.jobs.queue import make_celery, ring
from services.evaluator import repository
from tests.conftest import Stores
from tests.integration.evaluator.test_job import finished, store_file, submit, wait
from tests.integration.evaluator.test_resume import (
    COUNT,
    ITEMS,
    SlowGateway,
    evaluator,
    kill_with_children,
    stored,
)

SHARD = 4
RIGHT = sum(n % 3 != 0 if n % 2 else True for n in range(1, COUNT + 1))


@pytest.fixture(autouse=True)
def keeper(stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MT_EVALUATION_SHARD_ITEMS", str(SHARD))
    monkeypatch.setenv("MT_RESPONSE_CACHE", "false")
    keeper = Keeper(database, partial(ring, make_celery(stores.settings.broker_url)), sweep_every_s=0.5)
    keeper.start()
    yield
    keeper.stop()


@pytest.fixture
def gateway() -> Iterator[SlowGateway]:
    fake = SlowGateway()
    yield fake
    fake.allowed.release(1000)
    fake.close()


def begin(stores: Stores, database: Database) -> str:
    file = store_file(stores, database, "evaluation", ITEMS)
    return submit(
        database, model="gemma-3-270m-it", suites=[{"name": "mixed", "file": file}], prompt={}, seed=1
    )


def holders(database: Database, job_id: str) -> set[str]:
    """Who holds shards now: the job's own worker by the job's id, a helper by its process."""
    with database.session() as session:
        query = select(JobShardRow.lease_owner).where(JobShardRow.job_id == job_id)
        return {owner for owner in session.scalars(query) if owner is not None}


def helper_of(database: Database, job_id: str) -> int | None:
    """The process that helps."""
    pids = [owner.split(":")[1] for owner in holders(database, job_id) if not owner.startswith(job_id)]
    return int(pids[0]) if pids else None


def check(database: Database, row: JobRow) -> None:
    """Every answer is there once, under its own position, and the sums are those of one worker alone."""
    assert row.state == "succeeded", row.error
    assert row.result is not None
    assert (row.result["n"], row.result["correct"]) == (COUNT, RIGHT)
    assert row.progress["step"] == row.progress["total"] == COUNT
    with database.session() as session:
        query = select(EvaluationItemRow.position, EvaluationItemRow.item_id)
        rows = session.execute(query.where(EvaluationItemRow.job_id == row.id)).all()
        assert shards.counts(session, row.id).succeeded == COUNT // SHARD
    assert {position: name for position, name in rows} == {n: item.id for n, item in enumerate(ITEMS)}


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["helper", "own"])
def test_two_workers_share_an_evaluation_and_one_is_killed(
    lost: str, stores: Stores, database: Database, gateway: SlowGateway
) -> None:
    with evaluator(stores, gateway) as first, evaluator(stores, gateway) as second:
        job_id = begin(stores, database)
        wait(lambda: helper_of(database, job_id) is not None and len(holders(database, job_id)) == 2, 240)
        gateway.allowed.release(SHARD + 2)
        wait(lambda: len(stored(database, job_id)) == SHARD + 2, 240)
        helper = helper_of(database, job_id)
        victim = first if (first.pid == helper) == (lost == "helper") else second
        survivor = second if victim is first else first
        before = {*stored(database, job_id)}
        kill_with_children(victim)
        gateway.allowed.release(10 * COUNT)
        row = finished(database, job_id)
        assert psutil.pid_exists(survivor.pid)
    check(database, row)
    assert row.attempt == (1 if lost == "helper" else 2)
    assert row.result is not None
    with database.session() as session:
        done = repository.done_ids(session, job_id)
    assert before <= {*done}
    questions = {item.question for item in ITEMS if item.id in before}
    again = [question for question in gateway.answered if question in questions]
    assert sorted(again) == sorted(questions), "no stored answer was asked for a second time"
