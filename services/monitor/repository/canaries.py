"""Rounds of canary questions."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from libs.common.db.tables import CanaryRoundRow


def newest(session: Session, model: str, *, accepted: bool = False) -> CanaryRoundRow | None:
    """A model's newest round, or its newest accepted one."""
    query = select(CanaryRoundRow).where(CanaryRoundRow.model == model)
    if accepted:
        query = query.where(CanaryRoundRow.accepted)
    return session.scalar(query.order_by(CanaryRoundRow.id.desc()).limit(1))


def latest(session: Session) -> list[CanaryRoundRow]:
    """The newest round of each model."""
    query = (
        select(CanaryRoundRow)
        .distinct(CanaryRoundRow.model)
        .order_by(CanaryRoundRow.model, CanaryRoundRow.id.desc())
    )
    return list(session.scalars(query))


def forget(session: Session, older_than: datetime) -> None:
    """Drop old rounds; what is accepted stays."""
    session.execute(
        delete(CanaryRoundRow).where(CanaryRoundRow.asked_at < older_than, CanaryRoundRow.accepted.is_(False))
    )
