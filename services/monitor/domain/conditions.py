"""Whether a rule's condition holds now, for each set of labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from services.monitor.domain.rules import AbsenceRule, BudgetRule, Compared, RateRule, Rule, ThresholdRule
from services.monitor.domain.samples import Labels, Samples

_AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "max": max,
    "min": min,
    "sum": sum,
    "avg": fmean,
}
Pairs = Iterable[tuple[Mapping[str, str], float]]


@dataclass(frozen=True)
class Seen:
    """What a rule sees for one set of labels. `lingers`: not beyond the limit any more, but not back past `clear` either."""

    value: float
    holds: bool
    lingers: bool = False


def evaluate(rule: Rule, samples: Samples, at: float) -> dict[Labels, Seen]:
    """What a rule sees, by the labels that it keeps apart; what has no data is missing."""
    match rule:
        case ThresholdRule():
            return _threshold(rule, samples, at)
        case RateRule():
            return _rate(rule, samples, at)
        case AbsenceRule():
            absent = not samples.seen(rule.metric, rule.match, rule.window_s, at)
            return {(): Seen(float(absent), absent and at - samples.began >= rule.window_s)}
        case BudgetRule():
            return _budget(rule, samples, at)


def reach_s(rule: Rule) -> float:
    """How far back a rule looks, in seconds."""
    match rule:
        case RateRule() | AbsenceRule():
            return rule.window_s
        case BudgetRule():
            return max(window.long_s for window in rule.windows)
        case _:
            return 0.0


def reads(rule: Rule) -> list[str]:
    """The series' names that a rule reads, as Prometheus shows them."""
    match rule:
        case ThresholdRule() | RateRule():
            return [rule.metric, *([rule.of] if rule.of else [])]
        case BudgetRule() if rule.within_s is not None:
            return [f"{rule.metric}_bucket", f"{rule.metric}_count"]
        case _:
            return [rule.metric]


def _threshold(rule: ThresholdRule, samples: Samples, at: float) -> dict[Labels, Seen]:
    values = _grouped(samples.latest(rule.metric, rule.match, at), rule.by, rule.aggregate)
    if rule.of is not None:
        values = _divided(values, _grouped(samples.latest(rule.of, rule.match, at), rule.by, rule.aggregate))
    return {labels: _compared(rule, value) for labels, value in values.items()}


def _rate(rule: RateRule, samples: Samples, at: float) -> dict[Labels, Seen]:
    grown = _grouped(samples.increases(rule.metric, rule.match, rule.window_s, at), rule.by, "sum")
    if rule.of is None:
        return {labels: _compared(rule, growth / rule.window_s) for labels, growth in grown.items()}
    whole = _grouped(samples.increases(rule.of, rule.of_match, rule.window_s, at), rule.by, "sum")
    enough = {labels: events for labels, events in whole.items() if events >= rule.min_events}
    return {labels: _compared(rule, share) for labels, share in _divided(grown, enough).items()}


def _budget(rule: BudgetRule, samples: Samples, at: float) -> dict[Labels, Seen]:
    found: dict[Labels, Seen] = {}
    for window in rule.windows:
        limit = window.factor * (1 - rule.objective)
        long = _bad_share(rule, samples, window.long_s, at, rule.min_events)
        short = _bad_share(rule, samples, window.short_s, at, 0.0)
        for labels, share in long.items():
            holds = share > limit and short.get(labels, 0.0) > limit
            if labels not in found or holds:
                found[labels] = Seen(share, holds)
    return found


def _bad_share(
    rule: BudgetRule, samples: Samples, window_s: float, at: float, min_events: float
) -> dict[Labels, float]:
    def grown(name: str, match: Mapping[str, str]) -> dict[Labels, float]:
        return _grouped(samples.increases(name, match, window_s, at), rule.by, "sum")

    if rule.within_s is None:
        whole = grown(rule.metric, rule.match)
        bad = grown(rule.metric, {**rule.match, **rule.bad})
    else:
        whole = grown(f"{rule.metric}_count", rule.match)
        good = grown(f"{rule.metric}_bucket", {**rule.match, "le": bucket(rule.within_s)})
        bad = {labels: events - good.get(labels, 0.0) for labels, events in whole.items()}
    return {
        labels: bad.get(labels, 0.0) / events
        for labels, events in whole.items()
        if events > 0 and events >= min_events
    }


def bucket(within_s: float) -> str:
    """A bucket's `le`, as prometheus_client writes it."""
    return str(float(within_s))


def _compared(rule: Compared, value: float) -> Seen:
    clear = rule.clear
    if rule.above is not None:
        return Seen(value, value > rule.above, clear is not None and value > clear)
    assert rule.below is not None
    return Seen(value, value < rule.below, clear is not None and value < clear)


def _grouped(pairs: Pairs, by: Sequence[str], aggregate: str) -> dict[Labels, float]:
    groups: defaultdict[Labels, list[float]] = defaultdict(list)
    for labels, value in pairs:
        groups[tuple((name, labels.get(name, "")) for name in sorted(by))].append(value)
    return {labels: _AGGREGATES[aggregate](values) for labels, values in groups.items()}


def _divided(left: Mapping[Labels, float], right: Mapping[Labels, float]) -> dict[Labels, float]:
    return {labels: value / right[labels] for labels, value in left.items() if right.get(labels)}
