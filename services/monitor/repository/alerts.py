"""Alerts, silences and deliveries in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import case, delete, func, or_, select, text, update
from sqlalchemy.orm import Session

from libs.common.db.tables import AlertDeliveryRow, AlertRow, AlertSilenceRow

EVALUATING = 0x6D74_616C  # any number that nobody else uses: "mtal"


def try_to_lead(session: Session) -> bool:
    """Whether this transaction is the one that evaluates; a second monitor that tries at the same time is not."""
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(EVALUATING))))


def open_alerts(session: Session) -> Sequence[AlertRow]:
    """Those that are pending or fire."""
    query = select(AlertRow).where(AlertRow.state != "resolved").with_for_update()
    return session.scalars(query).all()


def to_tell(session: Session) -> Sequence[AlertRow]:
    """Those that fire, and those whose end somebody who was told of the beginning has not been told."""
    ended = (AlertRow.state == "resolved") & (AlertRow.told == "firing")
    return session.scalars(select(AlertRow).where(or_(AlertRow.state == "firing", ended))).all()


def mark_told(session: Session, ids: Sequence[str], at: datetime) -> None:
    """The present state of these alerts has been told."""
    session.execute(update(AlertRow).where(AlertRow.id.in_(ids)).values(told=AlertRow.state, told_at=at))


def mark_escalated(session: Session, ids: Sequence[str], at: datetime) -> None:
    """These alerts have been escalated."""
    session.execute(update(AlertRow).where(AlertRow.id.in_(ids)).values(escalated_at=at))


def get(session: Session, alert_id: str, *, lock: bool = False) -> AlertRow | None:
    """One alert."""
    return session.get(AlertRow, alert_id, with_for_update=lock)


def listed(
    session: Session, *, state: str | None, rule: str | None, after: str | None, limit: int
) -> Sequence[AlertRow]:
    """Newest first; without a state, those that are open."""
    query = select(AlertRow).order_by(AlertRow.id.desc()).limit(limit)
    query = query.where(AlertRow.state == state) if state else query.where(AlertRow.state != "resolved")
    if rule:
        query = query.where(AlertRow.rule == rule)
    if after:
        query = query.where(AlertRow.id < after)
    return session.scalars(query).all()


def counted(session: Session) -> list[tuple[str, str, str, int]]:
    """Rule, severity, state and number of open alerts."""
    query = (
        select(AlertRow.rule, AlertRow.severity, AlertRow.state, func.count())
        .where(AlertRow.state != "resolved")
        .group_by(AlertRow.rule, AlertRow.severity, AlertRow.state)
    )
    return [(rule, severity, state, count) for rule, severity, state, count in session.execute(query)]


def silences(
    session: Session, at: datetime, *, past: bool = False, after: str | None = None, limit: int = 1000
) -> Sequence[AlertSilenceRow]:
    """Silences that are not over, or all of them, newest first."""
    query = select(AlertSilenceRow).order_by(AlertSilenceRow.id.desc()).limit(limit)
    if after:
        query = query.where(AlertSilenceRow.id < after)
    if not past:
        query = query.where(AlertSilenceRow.ends_at > at)
    return session.scalars(query).all()


def silence(session: Session, silence_id: str) -> AlertSilenceRow | None:
    """One silence."""
    return session.get(AlertSilenceRow, silence_id, with_for_update=True)


def last_told(session: Session) -> dict[str, datetime]:
    """When each group was last told anything, by group; the last day counts."""
    query = (
        select(AlertDeliveryRow.group, func.max(AlertDeliveryRow.created_at))
        .where(AlertDeliveryRow.created_at > func.now() - timedelta(days=1))
        .group_by(AlertDeliveryRow.group)
    )
    return {group: at for group, at in session.execute(query)}


def supersede(session: Session, channel: str, group: str) -> None:
    """Messages about a group that still wait are replaced by the one that comes now."""
    session.execute(
        update(AlertDeliveryRow)
        .where(
            AlertDeliveryRow.channel == channel,
            AlertDeliveryRow.group == group,
            AlertDeliveryRow.state == "waiting",
        )
        .values(state="superseded", next_try_at=None)
    )


def take_delivery(session: Session, at: datetime, retry_s: float) -> AlertDeliveryRow | None:
    """The next message that is due, counted as tried; should this process die, it is due again after `retry_s`."""
    query = (
        select(AlertDeliveryRow)
        .where(AlertDeliveryRow.state == "waiting", AlertDeliveryRow.next_try_at <= at)
        .order_by(AlertDeliveryRow.next_try_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = session.scalar(query)
    if row is not None:
        row.attempts += 1
        row.next_try_at = at + timedelta(seconds=retry_s)
    return row


def delivered(session: Session, delivery_id: str, at: datetime) -> None:
    """It has been sent. Also if it was superseded meanwhile: that is what happened."""
    session.execute(
        update(AlertDeliveryRow)
        .where(AlertDeliveryRow.id == delivery_id)
        .values(state="sent", sent_at=at, next_try_at=None, error=None)
    )


def not_delivered(session: Session, delivery_id: str, error: str, next_try_at: datetime | None) -> None:
    """It could not be sent; without a next try it never will be."""
    waiting = AlertDeliveryRow.state == "waiting"
    session.execute(
        update(AlertDeliveryRow)
        .where(AlertDeliveryRow.id == delivery_id)
        .values(
            error=error[:1000],
            state=AlertDeliveryRow.state
            if next_try_at
            else case((waiting, "failed"), else_=AlertDeliveryRow.state),
            next_try_at=case((waiting, next_try_at), else_=None),
        )
    )


def deliveries(
    session: Session, state: str | None, after: str | None, limit: int
) -> Sequence[AlertDeliveryRow]:
    """Newest first."""
    query = select(AlertDeliveryRow).order_by(AlertDeliveryRow.id.desc()).limit(limit)
    if after:
        query = query.where(AlertDeliveryRow.id < after)
    return session.scalars(query.where(AlertDeliveryRow.state == state) if state else query).all()


def forget(session: Session, older_than: datetime) -> None:
    """Drop what ended long ago."""
    session.execute(delete(AlertRow).where(AlertRow.resolved_at < older_than))
    session.execute(delete(AlertSilenceRow).where(AlertSilenceRow.ends_at < older_than))
    session.execute(
        delete(AlertDeliveryRow).where(
            AlertDeliveryRow.created_at < older_than, AlertDeliveryRow.state != text("'waiting'")
        )
    )
