"""Alerts: evaluate the rules, plan what is told, deliver it, and what people do with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import AlertDeliveryRow, AlertRow, AlertSilenceRow
from libs.common.errors import Conflict, NotFound
from libs.common.ids import new_id
from model_training.contracts.alerts import Alert, Delivery, Silence, SilenceCreate
from services.monitor.domain.conditions import Seen, evaluate, reach_s
from services.monitor.domain.lifecycle import Standing, advance, sentence
from services.monitor.domain.notices import Channel, Manners, Quiet, Told, plan, retry_after_s, silence_of
from services.monitor.domain.rules import Rule
from services.monitor.domain.samples import Labels, Samples
from services.monitor.repository import alerts as store
from services.monitor.service import meters

KEPT_DAYS = 90
LONGEST_DOUBT_S = 3600.0
"""A monitor that has just started cannot see as far back as a rule looks; for so long it ends no alert of such a rule."""


class Sender(Protocol):
    """What brings a message to a channel."""

    def send(self, channel: str, title: str, body: str, *, urgent: bool) -> str | None:
        """Send; why it failed, or None."""
        ...


class Alerting:
    """The rules at work. Everything that must outlive the process is in PostgreSQL."""

    def __init__(self, rules: Sequence[Rule], channels: Sequence[Channel], manners: Manners) -> None:
        self.rules = rules
        self._channels = channels
        self._manners = manners

    def look(self, session: Session, samples: Samples, at: datetime) -> None:
        """Evaluate every rule, and begin, go on with or end alerts; one monitor does it at a time."""
        if not store.try_to_lead(session):
            return
        rows = {(row.rule, row.labels_key): row for row in store.open_alerts(session)}
        moment = at.timestamp()
        for rule in self.rules:
            seen = evaluate(rule, samples, moment)
            certain = moment - samples.began >= min(reach_s(rule), LONGEST_DOUBT_S)
            known = {_labels(row) for (name, _), row in rows.items() if name == rule.name}
            for labels in seen.keys() | known:
                row = rows.get((rule.name, _key(labels)))
                self._step(session, rule, labels, row, seen.get(labels), at, certain=certain)
        self._end_orphans(rows, at)
        session.flush()
        _count(session)

    def tell(self, session: Session, at: datetime) -> int:
        """Write down the messages that are due; how many there are."""
        if not store.try_to_lead(session):
            return 0
        told = [_told(row) for row in store.to_tell(session)]
        silences = _silences(session, at)
        messages = plan(told, silences, self._channels, store.last_told(session), self._manners, at)
        for message in messages:
            if message.escalation:
                store.mark_escalated(session, message.alerts, at)
            else:
                store.supersede(session, message.channel, message.group)
                store.mark_told(session, message.alerts, at)
            session.add(
                AlertDeliveryRow(
                    id=new_id("dlv"),
                    channel=message.channel,
                    group=message.group,
                    alerts=list(message.alerts),
                    title=message.title,
                    body=message.body,
                    state="waiting",
                    created_at=at,
                    next_try_at=at,
                )
            )
        return len(messages)

    def deliver(self, database: Database, sender: Sender, at: datetime) -> bool:
        """Try the next message that is due; False when there is none."""
        with database.session() as session:
            row = store.take_delivery(session, at, self._manners.longest_retry_s)
        if row is None:
            return False
        error = sender.send(row.channel, row.title, row.body, urgent="firing" in row.title)
        outcome = "sent" if error is None else "retried"
        with database.session() as session:
            if error is None:
                store.delivered(session, row.id, at)
            else:
                again = at + timedelta(seconds=retry_after_s(row.attempts, self._manners))
                given_up = again - row.created_at > timedelta(seconds=self._manners.give_up_after_s)
                outcome = "failed" if given_up else "retried"
                store.not_delivered(session, row.id, error, None if given_up else again)
        meters.NOTIFICATIONS.labels(row.channel, outcome).inc()
        return True

    def forget(self, session: Session, at: datetime) -> None:
        """Drop what ended long ago."""
        store.forget(session, at - timedelta(days=KEPT_DAYS))

    def _step(
        self,
        session: Session,
        rule: Rule,
        labels: Labels,
        row: AlertRow | None,
        seen: Seen | None,
        at: datetime,
        *,
        certain: bool,
    ) -> None:
        before = _standing(row) if row else None
        after = advance(rule, before, seen, at, certain=certain)
        if after is None:
            if row is not None:
                session.delete(row)
            return
        if row is None:
            row = AlertRow(
                id=new_id("alert"), rule=rule.name, labels=dict(labels), labels_key=_key(labels), note=""
            )
            session.add(row)
        row.severity, row.runbook = rule.severity, runbook_of(rule)
        row.state, row.started_at, row.fired_at = after.state, after.started_at, after.fired_at
        row.quiet_since, row.resolved_at, row.value = after.quiet_since, after.resolved_at, after.value
        row.summary = sentence(rule, dict(labels), after.value)

    def _end_orphans(self, rows: Mapping[tuple[str, str], AlertRow], at: datetime) -> None:
        """Alerts of rules that are gone end with them."""
        names = {rule.name for rule in self.rules}
        for row in rows.values():
            if row.rule not in names:
                row.state, row.resolved_at = "resolved", at


def services_in_alerts(session: Session) -> set[str]:
    """Services that open alerts speak of: a monitor that starts while one is away must know that it should be there."""
    return {row.labels["service"] for row in store.open_alerts(session) if "service" in row.labels}


def runbook_of(rule: Rule) -> str:
    """Where to read what to do."""
    return rule.runbook or f"docs/guide/runbooks.md#{rule.name.lower()}"


def list_alerts(
    session: Session, at: datetime, *, state: str | None, rule: str | None, after: str | None, limit: int
) -> list[Alert]:
    """Newest first; open ones unless a state is given."""
    silences = _silences(session, at)
    rows = store.listed(session, state=state, rule=rule, after=after, limit=limit)
    return [_alert(row, silences, at) for row in rows]


def get(session: Session, alert_id: str, at: datetime) -> Alert:
    """One alert.

    Raises:
        NotFound: there is none of this id.
    """
    return _alert(_get(session, alert_id), _silences(session, at), at)


def acknowledge(session: Session, alert_id: str, who: str | None, note: str, at: datetime) -> Alert:
    """Somebody sees to it: it is not repeated and not escalated. A second time changes the note.

    Raises:
        NotFound: there is none of this id.
        Conflict: it is over.
    """
    row = _get(session, alert_id)
    _require_open(row)
    row.acknowledged_at, row.acknowledged_by = row.acknowledged_at or at, row.acknowledged_by or who
    row.note = note or row.note
    return _alert(row, _silences(session, at), at)


def resolve(session: Session, alert_id: str, note: str, at: datetime) -> Alert:
    """End an alert by hand. Should its condition still hold, a new one begins.

    Raises:
        NotFound: there is none of this id.
        Conflict: it is over.
    """
    row = _get(session, alert_id)
    _require_open(row)
    row.state, row.resolved_at, row.note = "resolved", at, note or row.note
    return _alert(row, [], at)


def create_silence(session: Session, wanted: SilenceCreate, who: str | None, at: datetime) -> Silence:
    """Keep matching alerts quiet."""
    starts_at = wanted.starts_at or at
    row = AlertSilenceRow(
        id=new_id("sil"),
        match=dict(wanted.match),
        starts_at=starts_at,
        ends_at=starts_at + timedelta(seconds=wanted.duration_s),
        created_by=who,
        reason=wanted.reason,
    )
    session.add(row)
    return _silence(row)


def list_silences(
    session: Session, at: datetime, *, past: bool, after: str | None, limit: int
) -> list[Silence]:
    """Those that are not over, or all, newest first."""
    rows = store.silences(session, at, past=past, after=after, limit=limit)
    return [_silence(row) for row in rows]


def end_silence(session: Session, silence_id: str, at: datetime) -> Silence:
    """End a silence now.

    Raises:
        NotFound: there is none of this id.
    """
    row = store.silence(session, silence_id)
    if row is None:
        raise NotFound(f"There is no silence {silence_id!r}.", hint="`mt alerts silences` lists them.")
    row.ends_at = min(row.ends_at, at)
    row.starts_at = min(row.starts_at, row.ends_at)
    return _silence(row)


def list_deliveries(session: Session, *, state: str | None, after: str | None, limit: int) -> list[Delivery]:
    """What was told to whom, newest first."""
    return [Delivery.model_validate(_fields(row)) for row in store.deliveries(session, state, after, limit)]


def _get(session: Session, alert_id: str) -> AlertRow:
    row = store.get(session, alert_id, lock=True)
    if row is None:
        raise NotFound(f"There is no alert {alert_id!r}.", hint="`mt alerts list --all` shows all of them.")
    return row


def _require_open(row: AlertRow) -> None:
    if row.state == "resolved":
        raise Conflict(f"The alert {row.id} is over since {row.resolved_at:%Y-%m-%d %H:%M:%S}.")


def _standing(row: AlertRow) -> Standing:
    return Standing(
        row.state,  # pyright: ignore[reportArgumentType]
        row.started_at,
        row.fired_at,
        row.resolved_at,
        row.quiet_since,
        row.value,
    )


def _told(row: AlertRow) -> Told:
    return Told(
        id=row.id,
        rule=row.rule,
        severity=row.severity,  # pyright: ignore[reportArgumentType]
        state=row.state,
        labels=row.labels,
        summary=row.summary,
        changed_at=row.resolved_at or row.fired_at or row.started_at,
        acknowledged=row.acknowledged_at is not None,
        told=row.told,
        told_at=row.told_at,
        escalated=row.escalated_at is not None,
        runbook=row.runbook,
    )


def _silences(session: Session, at: datetime) -> list[Quiet]:
    return [Quiet(row.id, row.match, row.starts_at, row.ends_at) for row in store.silences(session, at)]


def _alert(row: AlertRow, silences: Sequence[Quiet], at: datetime) -> Alert:
    quiet = silence_of(row.rule, row.severity, row.labels, silences, at)
    return Alert.model_validate(_fields(row) | {"silenced_by": quiet})


def _silence(row: AlertSilenceRow) -> Silence:
    return Silence.model_validate(_fields(row))


def _fields(row: AlertRow | AlertSilenceRow | AlertDeliveryRow) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in row.__table__.columns}


def _count(session: Session) -> None:
    meters.ALERTS.clear()
    for rule, severity, state, number in store.counted(session):
        meters.ALERTS.labels(rule, severity, state).set(number)


def _key(labels: Labels) -> str:
    return json.dumps(dict(labels), sort_keys=True)


def _labels(row: AlertRow) -> Labels:
    return tuple(sorted(row.labels.items()))
