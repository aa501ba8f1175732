"""The keeper's duties and its election, on a database of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pytest
from kombu.exceptions import OperationalError as BrokerAway
from redis import Redis
from sqlalchemy import func, select, text, update

from libs.common.db.engine import Database
from libs.common.db.tables import JobRow, OutboxRow
from libs.common.ids import new_id
from libs.common.jobs import transitions
from libs.common.jobs.keeper import RINGS_PER_KIND, Keeper, ring_again
from libs.common.jobs.queue import UNHEARD, make_celery, ring
from model_training.contracts.jobs import JobKind
from tests.conftest import Stores
from tests.integration.jobs.helpers import read, wait


@pytest.fixture(autouse=True)
def empty_queue(own_database: Database) -> Iterator[None]:
    yield
    with own_database.session() as session:
        for job in session.scalars(select(JobRow).where(JobRow.finished_at.is_(None))).all():
            transitions.request_cancel(session, job)


def new_job(database: Database) -> str:
    with database.session() as session:
        return transitions.create(session, JobKind.COMPARE, "proj_default", {}).id


def test_a_keeper_that_stops_lets_another_one_be_elected(own_database: Database) -> None:
    rung: list[str] = []
    for _ in range(2):  # on the same pool of connections
        keeper = Keeper(own_database, lambda queue, ids: rung.extend(ids))
        keeper.start()
        job_id = new_job(own_database)
        wait(lambda wanted=job_id: wanted in rung, timeout_s=60)
        keeper.stop()


def test_a_keeper_that_hangs_loses_its_lock(own_database: Database) -> None:
    rung: list[str] = []
    with own_database.engine.connect() as hanging:  # what `Keeper` does, and then nothing more
        keeper = Keeper(own_database, lambda queue, ids: rung.extend(ids), hanging_after_s=0.5)
        assert keeper._elect(hanging)  # pyright: ignore[reportPrivateUsage]
        keeper.start()
        job_id = new_job(own_database)
        wait(lambda: job_id in rung, timeout_s=60)
        keeper.stop()
        hanging.invalidate()


def test_a_broker_that_is_away_keeps_no_other_duty_from_being_done(own_database: Database) -> None:
    def away(queue: str, ids: Sequence[str]) -> None:
        raise BrokerAway("")  # without a word, as some of its errors are

    waiting, lost = new_job(own_database), new_job(own_database)
    with own_database.session() as session:
        assert transitions.claim(session, lost, "gone", lease_s=0.0) is not None
    done: list[float] = []
    keeper = Keeper(own_database, away, duties=[lambda: done.append(time.monotonic())], sweep_every_s=0.2)
    keeper.start()
    wait(lambda: read(own_database, lost).state == "queued", timeout_s=60)
    wait(lambda: len(done) > 1, timeout_s=60)
    keeper.stop()
    with own_database.session() as session:
        assert session.scalar(select(func.count()).where(OutboxRow.job_id == waiting)) == 1


def test_jobs_that_wait_too_long_are_rung_for_again_but_not_all_at_once(own_database: Database) -> None:
    for _ in range(RINGS_PER_KIND + 5):
        new_job(own_database)
    rung: list[str] = []
    with own_database.session() as session:
        assert ring_again(session, lambda queue, ids: rung.extend(ids)) == 0
        session.execute(update(JobRow).values(rung_at=text("now() - interval '1 hour'")))
    with own_database.session() as session:
        ring_again(session, lambda queue, ids: rung.extend(ids))
    assert len(rung) == RINGS_PER_KIND
    with own_database.session() as session:
        assert ring_again(session, lambda queue, ids: rung.extend(ids)) == 0


def test_doorbells_that_nobody_hears_do_not_pile_up(stores: Stores) -> None:
    app, queue = make_celery(stores.settings.broker_url), f"unheard-{new_id('q')}"
    with Redis.from_url(stores.settings.broker_url) as valkey:
        ring(app, queue, ["first"])
        ring(app, queue, [f"job-{number}" for number in range(UNHEARD + 5)])
        assert valkey.llen(queue) == UNHEARD
        valkey.lpop(queue)
        ring(app, queue, ["one more"])
        assert valkey.llen(queue) == UNHEARD
        valkey.delete(queue)
