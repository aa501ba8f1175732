"""Samples of live answers in PostgreSQL: the reference, windows that are looked at once, accepting, and forgetting."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import DriftReferenceRow, LiveSampleRow
from libs.common.errors import Conflict
from libs.common.live_samples import LiveAnswer, LiveSamples
from services.monitor.service import live, meters
from services.monitor.service.live import REFERENCE, WINDOW, LiveDriftKeeper

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
MODEL = "rag:docs@gemma-3-270m"


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """A transaction that is rolled back."""
    with database.engine.connect() as connection:
        transaction = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            session.execute(delete(LiveSampleRow))
            session.execute(delete(DriftReferenceRow))
            yield session
        transaction.rollback()


def add(session: Session, count: int, *, longer: float = 0.0, seed: int = 0, at: datetime = NOON) -> None:
    """Samples whose answers are `longer` standard deviations longer."""
    draw = random.Random(seed)
    for _ in range(count):
        features = {"question_length": draw.gauss(4, 1), "answer_length": draw.gauss(5 + longer, 1)}
        session.add(LiveSampleRow(model=MODEL, at=at, features=features, question="q", answer="a"))
    session.flush()


def drifted(side: str) -> float:
    return meters.DRIFTED.labels(MODEL, side)._value.get()  # pyright: ignore[reportPrivateUsage]


def test_a_model_is_held_against_its_first_samples(session: Session) -> None:
    keeper = LiveDriftKeeper()
    add(session, REFERENCE - 1)
    keeper(session, NOON, [])
    (known,) = live.listed(session)
    assert (known.samples, known.accepted_at, known.signals) == (REFERENCE - 1, None, [])
    assert f"{REFERENCE - 1} of {REFERENCE}" in known.words

    add(session, 1 + WINDOW, seed=1)
    keeper(session, NOON + timedelta(minutes=1), [])  # the reference
    keeper(session, NOON + timedelta(minutes=2), [])  # a window of the same kind
    (known,) = live.listed(session)
    assert {one.name: one.drifted for one in known.signals} == {
        "question_length": False,
        "answer_length": False,
    }
    assert (drifted("input"), drifted("output")) == (0, 0)

    add(session, WINDOW, longer=1.0, seed=2)
    keeper(session, NOON + timedelta(minutes=2, seconds=30), [])
    assert drifted("output") == 0, "not so soon again"
    keeper(session, NOON + timedelta(minutes=3), [])
    (known,) = live.listed(session)
    assert known.signals[0].name == "answer_length"
    assert known.signals[0].effect == pytest.approx(1.0, abs=0.3)
    assert known.words == "Drifted: answer length."
    assert (drifted("input"), drifted("output")) == (0, 1)

    # A monitor that was restarted knows it still, and looks at no window twice.
    meters.DRIFTED.clear()
    LiveDriftKeeper()(session, NOON + timedelta(minutes=4), [])
    assert (drifted("input"), drifted("output")) == (0, 1)

    with pytest.raises(Conflict, match="a reference takes 500"):
        live.accept(session, "gemma-3-270m", NOON)
    add(session, REFERENCE, longer=1.0, seed=3)
    accepted = live.accept(session, MODEL, NOON)
    assert accepted.signals == []
    assert drifted("output") == 0
    add(session, WINDOW, longer=1.0, seed=4)
    keeper(session, NOON + timedelta(minutes=5), [])
    assert drifted("output") == 0


def test_texts_go_after_a_week_and_numbers_after_a_month(session: Session) -> None:
    for days in (1, 8, 31):
        add(session, 1, at=NOON - timedelta(days=days))
    LiveDriftKeeper()(session, NOON, [])
    rows = session.execute(select(LiveSampleRow.at, LiveSampleRow.question).order_by(LiveSampleRow.at)).all()
    assert [(NOON - at).days for at, _ in rows] == [8, 1]
    assert [question for _, question in rows] == [None, "q"]


def test_answers_are_written_down_without_their_texts_unless_that_was_asked_for(database: Database) -> None:
    samples = LiveSamples(database)
    for wanted in ("numbers", "text"):
        samples.offer(
            wanted,
            lambda: LiveAnswer("kept", "Ask me@example.com?", "Yes.", "stop", 1.0, {"retrieval_best": 2.0}),
        )
    samples.close()
    with database.session() as session:
        rows = session.scalars(
            select(LiveSampleRow).where(LiveSampleRow.model == "kept").order_by(LiveSampleRow.id)
        ).all()
        assert [(row.question, row.answer) for row in rows] == [(None, None), ("Ask █?", "Yes.")]
        assert rows[0].features["retrieval_best"] == 2.0
        assert session.scalar(select(func.count()).select_from(DriftReferenceRow)) == 0
        session.execute(delete(LiveSampleRow).where(LiveSampleRow.model == "kept"))
