"""Whom to tell what, and when: groups, repeats, escalation, silences, and the wait before a message is tried again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from model_training.contracts.alerts import Severity
from services.monitor.domain.samples import matches


class Channel(BaseModel):
    """Somebody who is told. `urls` are Apprise's (https://github.com/caronc/apprise/wiki), such as `jsons://host/path`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,40}$")
    urls: tuple[str, ...] = Field(min_length=1)
    severities: tuple[Severity, ...] = ("page", "ticket")
    escalation: bool = False
    """Told only of pages that nobody has acknowledged for `escalate_after_s`."""


class Manners(BaseModel):
    """How to tell. Times are in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group_by: tuple[str, ...] = ("rule",)
    """Alerts that share these (`rule`, `severity` or labels) are told in one message."""
    group_wait_s: float = Field(default=5, ge=0)
    """How long the first alert of a group waits for others."""
    group_interval_s: float = Field(default=60, ge=0)
    """The shortest time between two messages about one group."""
    repeat_every_s: float = Field(default=4 * 3600, gt=0)
    """A firing alert that nobody acknowledges is told again after this time."""
    escalate_after_s: float = Field(default=900, gt=0)
    first_retry_s: float = Field(default=5, gt=0)
    longest_retry_s: float = Field(default=120, gt=0)
    give_up_after_s: float = Field(default=86400, gt=0)


@dataclass(frozen=True)
class Told:
    """An alert, as far as telling goes. `told` is the state that was told last."""

    id: str
    rule: str
    severity: Severity
    state: str
    labels: Mapping[str, str]
    summary: str
    changed_at: datetime
    acknowledged: bool = False
    told: str | None = None
    told_at: datetime | None = None
    escalated: bool = False
    runbook: str = ""


@dataclass(frozen=True)
class Quiet:
    """A silence."""

    id: str
    match: Mapping[str, str]
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True)
class Message:
    """What one channel is told about one group."""

    channel: str
    group: str
    alerts: tuple[str, ...]
    title: str
    body: str
    escalation: bool = False


def silence_of(
    rule: str, severity: str, labels: Mapping[str, str], silences: Iterable[Quiet], at: datetime
) -> str | None:
    """The silence that keeps an alert quiet at a moment, or None."""
    known = {**labels, "rule": rule, "severity": severity}
    for silence in silences:
        if silence.starts_at <= at < silence.ends_at and matches(silence.match, known):
            return silence.id
    return None


def plan(
    alerts: Sequence[Told],
    silences: Sequence[Quiet],
    channels: Sequence[Channel],
    last_told: Mapping[str, datetime],
    manners: Manners,
    at: datetime,
) -> list[Message]:
    """The messages that are due, one a channel and group.

    Args:
        alerts: those that fire, and those that resolved and whose end has not been told.
        last_told: when each group was last told, by group.
    """
    groups: defaultdict[str, list[Told]] = defaultdict(list)
    for alert in alerts:
        if silence_of(alert.rule, alert.severity, alert.labels, silences, at) is None:
            groups[group_of(alert, manners)].append(alert)
    messages: list[Message] = []
    for group, members in groups.items():
        last = last_told.get(group)
        if last is None or at - last >= timedelta(seconds=manners.group_interval_s):
            messages += _for_group(group, members, channels, manners, at)
        messages += _escalated(group, members, channels, manners, at)
    return messages


def group_of(alert: Told, manners: Manners) -> str:
    """The name of an alert's group."""
    known = {**alert.labels, "rule": alert.rule, "severity": alert.severity}
    return " ".join(known.get(name, "") for name in manners.group_by) or "all"


def retry_after_s(attempts: int, manners: Manners) -> float:
    """How long to wait after the given number of failed tries: twice as long each time, up to a limit."""
    return min(manners.longest_retry_s, manners.first_retry_s * 2.0 ** min(attempts - 1, 30))


def _for_group(
    group: str, members: Sequence[Told], channels: Sequence[Channel], manners: Manners, at: datetime
) -> Iterable[Message]:
    wait, again = timedelta(seconds=manners.group_wait_s), timedelta(seconds=manners.repeat_every_s)
    new = [one for one in members if one.told != one.state and at - one.changed_at >= wait]
    old = [
        one
        for one in members
        if one.state == "firing" and one.told == "firing" and not one.acknowledged
        and one.told_at is not None and at - one.told_at >= again
    ]  # fmt: skip
    if not new and not old:
        return
    told = [one for one in members if one.state == "firing" or one.told != one.state]
    for channel in channels:
        theirs = [one for one in told if one.severity in channel.severities]
        if theirs and not channel.escalation:
            yield _message(channel.name, group, theirs)


def _escalated(
    group: str, members: Sequence[Told], channels: Sequence[Channel], manners: Manners, at: datetime
) -> Iterable[Message]:
    late = timedelta(seconds=manners.escalate_after_s)
    ignored = [
        one
        for one in members
        if one.state == "firing" and one.severity == "page" and not one.acknowledged and not one.escalated
        and at - one.changed_at >= late
    ]  # fmt: skip
    for channel in channels:
        if ignored and channel.escalation:
            yield _message(channel.name, group, ignored, escalation=True)


def _message(channel: str, group: str, alerts: Sequence[Told], *, escalation: bool = False) -> Message:
    firing = [one for one in alerts if one.state == "firing"]
    over = [one for one in alerts if one.state != "firing"]
    counts = [f"{len(firing)} firing"] if firing else []
    counts += [f"{len(over)} resolved"] if over else []
    prefix = "Not acknowledged: " if escalation else ""
    title = f"{prefix}[{', '.join(counts)}] {group}"
    lines = [f"{one.state.upper()} ({one.severity}) {one.summary}{_where(one)}" for one in (*firing, *over)]
    books = sorted({one.runbook for one in alerts if one.runbook})
    body = "\n".join([*lines, *(f"Runbook: {book}" for book in books)])
    return Message(channel, group, tuple(one.id for one in alerts), title, body, escalation)


def _where(alert: Told) -> str:
    labels = ", ".join(f"{name}={value}" for name, value in sorted(alert.labels.items()))
    return f" [{labels}]" if labels else ""
