"""Training and serving take turns on a card: leases in a real PostgreSQL, a real worker loop, and a stand-in engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update

from libs.common import devices
from libs.common.db.engine import Database
from libs.common.db.tables import DeviceLeaseRow
from libs.common.jobs import transitions
from libs.common.jobs.runner import JobRunner
from model_training.contracts.jobs import JobKind, JobState
from services.inference.sharing import SharedCards
from tests.conftest import Stores
from tests.integration.jobs.helpers import events_of, read, submit, wait, wait_for
from tests.integration.jobs.toy_worker import ToyHandler

CARD = "gpu0"


class Handler(ToyHandler):
    kind = JobKind.TRAIN


@dataclass
class Engine:
    """Remembers what it was told; requests are under way as long as `open` says."""

    told: list[str] = field(default_factory=list)
    open: int = 0
    refused: str | None = None

    def refuse(self, reason: str | None) -> None:
        self.refused = reason

    def queue_depth(self) -> int:
        return self.open

    def leave(self) -> None:
        self.told.append("leave")

    def come_back(self) -> None:
        self.told.append("come back")


@pytest.fixture
def shared(own_database: Database) -> Database:
    """A database of our own in which no card is leased."""
    with own_database.session() as session:
        session.execute(delete(DeviceLeaseRow))
    return own_database


@contextmanager
def serving(database: Database, engine: Engine) -> Iterator[SharedCards]:
    cards = SharedCards(database, engine, [CARD], lease_s=60)
    cards.start()
    try:
        wait(lambda: cards.why_not() is None)
        yield cards
    finally:
        cards.stop()


@contextmanager
def training(stores: Stores, database: Database, *cards: str) -> Iterator[JobRunner]:
    """A worker that runs what is queued, on a thread."""
    settings = stores.settings.model_copy(update={"shared_devices": cards, "lease_s": 60.0})
    leaving = threading.Event()
    runner = JobRunner(Handler(), database, settings, leaving.is_set)
    thread = threading.Thread(target=runner.run)
    thread.start()
    try:
        yield runner
    finally:
        thread.join()
        leaving.set()


def holder(database: Database) -> str | None:
    with database.session() as session:
        return session.scalar(select(DeviceLeaseRow.holder).where(DeviceLeaseRow.device == CARD))


def test_serving_finishes_its_answers_and_yields_and_comes_back_when_the_training_has_ended(
    stores: Stores, shared: Database
) -> None:
    engine = Engine(open=1)
    with serving(shared, engine) as cards:
        job_id = submit(shared)
        with training(stores, shared, CARD):
            wait(lambda: any("Waiting for gpu0" in row.message for row in events_of(shared, job_id)))
            wait(lambda: engine.refused is not None)
            assert engine.told == [], "an answer is still under way"
            assert holder(shared) == devices.SERVING
            assert (
                read(shared, job_id)
                .progress["message"]
                .startswith("Waiting for gpu0: answers are being given")
            )
            assert f"lent to {job_id}" in str(cards.why_not())
            engine.open = 0
            assert wait_for(shared, job_id).state == JobState.SUCCEEDED
        assert engine.told[0] == "leave"
        wait(lambda: cards.why_not() is None)
        assert engine.told == ["leave", "come back"]
        assert (engine.refused, holder(shared)) == (None, devices.SERVING)
    assert holder(shared) is None, "who stops lets go"


def test_a_job_that_waits_can_be_cancelled(stores: Stores, shared: Database) -> None:
    engine = Engine(open=1)
    with serving(shared, engine):
        job_id = submit(shared)
        with training(stores, shared, CARD):
            wait(lambda: any("Waiting for gpu0" in row.message for row in events_of(shared, job_id)))
            with shared.session() as session:
                transitions.request_cancel(session, transitions.locked(session, job_id))
            assert wait_for(shared, job_id).state == JobState.CANCELLED


def test_two_trainings_do_not_share_a_card(stores: Stores, shared: Database) -> None:
    with shared.session() as session:
        assert devices.take(session, CARD, "ftjob_other:1", 60).held
    job_id = submit(shared)
    with training(stores, shared, CARD):
        wait(lambda: any("job ftjob_other uses it" in row.message for row in events_of(shared, job_id)))
        with shared.session() as session:
            devices.free(session, CARD, "ftjob_other:1")
        assert wait_for(shared, job_id).state == JobState.SUCCEEDED


def test_without_shared_cards_nothing_is_leased(stores: Stores, shared: Database) -> None:
    job_id = submit(shared)
    with training(stores, shared):
        assert wait_for(shared, job_id).state == JobState.SUCCEEDED
    with shared.session() as session:
        assert session.scalars(select(DeviceLeaseRow)).all() == []
    assert SharedCards(shared, Engine(), [], lease_s=60).why_not() is None


def test_who_waits_is_next_and_who_falls_silent_loses_the_card(shared: Database) -> None:
    with shared.session() as session:
        assert devices.take(session, CARD, "a", 60).held
        assert devices.take(session, CARD, "a", 60).held, "again"
        waits = devices.take(session, CARD, "b", 60, insist=True)
        assert (waits.held, waits.holder, waits.wanted_by) == (False, "a", "b")
        assert devices.take(session, CARD, "a", 60).wanted_by == "b"
        devices.free(session, CARD, "a")
        assert not devices.take(session, CARD, "a", 60).held, "b is next"
        assert devices.take(session, CARD, "b", 60, insist=True).held
        devices.free(session, CARD, "nobody")
        long_ago = DeviceLeaseRow.expires_at - timedelta(seconds=120)
        session.execute(update(DeviceLeaseRow).values(expires_at=long_ago))
        assert devices.take(session, CARD, "a", 60).held, "b said nothing in time"
