"""Samples of live answers, and the references that they are held against."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from libs.common.db.tables import DriftReferenceRow, LiveSampleRow

S = LiveSampleRow


def models(session: Session, since: datetime, limit: int) -> list[str]:
    """Models of which answers were sampled lately, the busiest first."""
    query = select(S.model).where(S.at >= since).group_by(S.model).order_by(func.count().desc(), S.model)
    return list(session.scalars(query.limit(limit)))


def samples(
    session: Session, model: str, after: int, limit: int, *, newest: bool = False
) -> list[tuple[int, dict[str, float]]]:
    """Number and signals of a model's samples after another one, in order; the newest of them if asked for."""
    query = select(S.id, S.features).where(S.model == model, S.id > after)
    rows = session.execute(query.order_by(S.id.desc() if newest else S.id).limit(limit)).all()
    found = [(number, signals) for number, signals in rows]
    return found[::-1] if newest else found


def counts(session: Session) -> dict[str, int]:
    """How many samples there are, by model."""
    return {model: count for model, count in session.execute(select(S.model, func.count()).group_by(S.model))}


def reference(session: Session, model: str) -> DriftReferenceRow | None:
    """What a model's answers are held against; nobody else changes it until the transaction ends."""
    return session.get(DriftReferenceRow, model, with_for_update=True)


def references(session: Session) -> list[DriftReferenceRow]:
    """All of them, by model."""
    return list(session.scalars(select(DriftReferenceRow).order_by(DriftReferenceRow.model)))


def put_reference(
    session: Session, model: str, values: dict[str, Any], last_sample: int, at: datetime
) -> None:
    """Hold a model's later answers against these values."""
    session.merge(DriftReferenceRow(model=model, values=values, last_sample=last_sample, accepted_at=at))


def forget(session: Session, samples_before: datetime, texts_before: datetime) -> None:
    """Drop old samples, and the texts of those that are not quite as old."""
    session.execute(delete(S).where(S.at < samples_before))
    has_text = S.question.is_not(None) | S.answer.is_not(None)
    session.execute(update(S).where(S.at < texts_before, has_text).values(question=None, answer=None))
