"""The monitor's alert rules in Prometheus's language: the same conditions, times and second limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.monitor.domain.conditions import bucket
from services.monitor.domain.rules import AbsenceRule, BudgetRule, RateRule, Rule, ThresholdRule
from services.monitor.service.alerting import runbook_of


def alert(rule: Rule, runbooks: str) -> dict[str, Any]:
    """One alerting rule, as a rule file has it.

    Args:
        runbooks: what a runbook's path is put behind to make a link.
    """
    entry: dict[str, Any] = {"alert": rule.name, "expr": expression(rule)}
    if rule.for_s:
        entry["for"] = span(rule.for_s)
    if rule.resolve_after_s:
        entry["keep_firing_for"] = span(rule.resolve_after_s)
    entry["labels"] = {"severity": rule.severity}
    entry["annotations"] = {"summary": _summary(rule), "runbook": f"{runbooks}{runbook_of(rule)}"}
    return entry


def expression(rule: Rule) -> str:
    """The condition of a rule; with `clear`, an alert that fires goes on until the value is back past it."""
    match rule:
        case AbsenceRule():
            return f"absent_over_time({rule.metric}{selector(rule.match)}[{span(rule.window_s)}])"
        case BudgetRule():
            return " or ".join(f"({_burns(rule, index)})" for index in range(len(rule.windows)))
        case ThresholdRule():
            value = _threshold(rule)
        case RateRule():
            value = _rate(rule)
    sign, limit = (">", rule.above) if rule.above is not None else ("<", rule.below)
    holds = f"{value} {sign} {limit:g}"
    if isinstance(rule, RateRule) and rule.of is not None and rule.min_events:
        holds = f"({holds}) and {_enough(rule)}"
    if rule.clear is None:
        return holds
    fires = f'ALERTS{{alertname="{rule.name}",alertstate="firing"}}'
    return f"({holds}) or ({value} {sign} {rule.clear:g} and on ({', '.join(rule.by)}) {fires})"


def selector(match: Mapping[str, str]) -> str:
    """Labels with their values, as a query has them."""
    if not match:
        return ""
    parts = [
        f'{name}=~"{value[1:]}"' if value.startswith("~") else f'{name}="{value}"'
        for name, value in sorted(match.items())
    ]
    return "{" + ",".join(parts) + "}"


def span(seconds: float) -> str:
    """A time, as Prometheus writes it."""
    whole = round(seconds * 1000)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if whole % size == 0:
            return f"{whole // size}{unit}"
    return f"{whole}ms"


def _threshold(rule: ThresholdRule) -> str:
    def value(metric: str) -> str:
        return f"{rule.aggregate}{_by(rule.by)}({metric}{selector(rule.match)})"

    return value(rule.metric) if rule.of is None else f"{value(rule.metric)} / {value(rule.of)}"


def _rate(rule: RateRule) -> str:
    if rule.of is None:
        grown = _grown(rule.metric, rule.match, rule.window_s, rule.by)
        return f"{grown} / {rule.window_s:g}"
    above = _grown(rule.metric, rule.match, rule.window_s, rule.by)
    return f"{above} / {_grown(rule.of, rule.of_match, rule.window_s, rule.by)}"


def _enough(rule: RateRule) -> str:
    assert rule.of is not None
    return f"{_grown(rule.of, rule.of_match, rule.window_s, rule.by)} >= {rule.min_events:g}"


def _burns(rule: BudgetRule, index: int) -> str:
    window = rule.windows[index]
    limit = f"{window.factor:g} * {1 - rule.objective:.6g}"
    parts = [f"{_bad_share(rule, seconds)} > {limit}" for seconds in (window.long_s, window.short_s)]
    if rule.min_events:
        whole, match = _whole(rule)
        parts.append(f"{_grown(whole, match, window.long_s, rule.by)} >= {rule.min_events:g}")
    return " and ".join(parts)


def _bad_share(rule: BudgetRule, window_s: float) -> str:
    whole, match = _whole(rule)
    everything = _grown(whole, match, window_s, rule.by)
    if rule.within_s is None:
        return f"{_grown(rule.metric, {**match, **rule.bad}, window_s, rule.by)} / {everything}"
    le = bucket(rule.within_s)
    good = _grown(f"{rule.metric}_bucket", {**match, "le": le}, window_s, rule.by)
    return f"1 - {good} / {everything}"


def _whole(rule: BudgetRule) -> tuple[str, Mapping[str, str]]:
    return (rule.metric if rule.within_s is None else f"{rule.metric}_count"), rule.match


def _grown(metric: str, match: Mapping[str, str], window_s: float, by: Sequence[str]) -> str:
    return f"sum{_by(by)}(increase({metric}{selector(match)}[{span(window_s)}]))"


def _by(labels: Sequence[str]) -> str:
    return f" by ({', '.join(labels)}) " if labels else ""


def _summary(rule: Rule) -> str:
    text = rule.summary.replace("{value}", "{{ $value | printf `%.4g` }}")
    for label in rule.by:
        text = text.replace(f"{{{label}}}", f"{{{{ $labels.{label} }}}}")
    return text
