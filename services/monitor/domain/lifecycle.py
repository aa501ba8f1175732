"""How an alert begins and ends: pending, firing, resolved. One step at a time, from what a rule sees now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from model_training.contracts.alerts import AlertState
from services.monitor.domain.conditions import Seen
from services.monitor.domain.rules import Rule


@dataclass(frozen=True)
class Standing:
    """Where an alert stands. `quiet_since`: when a firing alert's condition was last seen to be over."""

    state: AlertState
    started_at: datetime
    fired_at: datetime | None = None
    resolved_at: datetime | None = None
    quiet_since: datetime | None = None
    value: float | None = None


def advance(
    rule: Rule, standing: Standing | None, seen: Seen | None, at: datetime, *, certain: bool = True
) -> Standing | None:
    """Where an alert stands after a look; None: there is none.

    Args:
        seen: None when there is no data, which ends an alert as a value within the limits does.
        certain: whether the rule could look as far back as it must; if not, what fires goes on.
    """
    holds = seen is not None and seen.holds
    value = seen.value if seen is not None else None
    if standing is None or standing.state == "resolved":
        standing = Standing("pending", at, value=value) if holds else None
    if standing is None or (standing.state == "pending" and not holds):
        return None
    if standing.state == "pending":
        due = at - standing.started_at >= timedelta(seconds=rule.for_s)
        return (
            replace(standing, state="firing", fired_at=at, value=value)
            if due
            else replace(standing, value=value)
        )
    if holds or not certain or (seen is not None and seen.lingers):
        kept = value if value is not None else standing.value
        return replace(standing, quiet_since=None, value=kept)
    quiet_since = standing.quiet_since or at
    if at - quiet_since >= timedelta(seconds=rule.resolve_after_s):
        return replace(standing, state="resolved", resolved_at=at, quiet_since=quiet_since)
    return replace(standing, quiet_since=quiet_since)


def sentence(rule: Rule, labels: Mapping[str, str], value: float | None) -> str:
    """The rule's summary with value and labels filled in."""
    text = rule.summary.replace("{value}", "?" if value is None else f"{value:.4g}")
    for name, label in labels.items():
        text = text.replace(f"{{{name}}}", label)
    return text
