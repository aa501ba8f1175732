"""For every kind of rule, series under which it fires and series under which it does not, in steps of 30 seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.monitor.domain.conditions import bucket
from services.monitor.domain.rules import AbsenceRule, BudgetRule, Match, RateRule, Rule, ThresholdRule
from services.monitor.domain.samples import Reading

STEP_S = 30


@dataclass(frozen=True)
class Line:
    """A series that starts at `start` and grows by `slope` each step."""

    name: str
    labels: tuple[tuple[str, str], ...]
    start: float
    slope: float = 0.0

    def at(self, step: int) -> Reading:
        """Its reading."""
        return Reading(self.name, self.labels, self.start + self.slope * step)

    def as_promtool(self, steps: int) -> dict[str, str]:
        """The same for `promtool test rules`."""
        labels = ",".join(f'{name}="{value}"' for name, value in self.labels)
        return {"series": f"{self.name}{{{labels}}}", "values": f"{self.start}+{self.slope}x{steps}"}


@dataclass(frozen=True)
class Case:
    """Series, and how long to wait, in steps."""

    lines: tuple[Line, ...]
    steps: int


def firing(rule: Rule) -> Case:
    """Series under which it fires."""
    return _case(rule, wrong=True)


def quiet(rule: Rule) -> Case:
    """Series under which it must not."""
    return _case(rule, wrong=False)


def between(rule: ThresholdRule, case: Case) -> Case:
    """The same series with values between the two limits."""
    assert rule.clear is not None
    limit = rule.above if rule.above is not None else rule.below
    assert limit is not None
    line = replace(case.lines[0], start=(rule.clear + limit) / 2)
    return replace(case, lines=(line, *case.lines[1:]))


def fired_labels(rule: Rule) -> dict[str, str]:
    """The labels of the alert."""
    return {name: _sample(rule.match).get(name, "x") for name in rule.by}


def _case(rule: Rule, *, wrong: bool) -> Case:
    labels = {**{name: "x" for name in rule.by}, **_sample(rule.match)}
    for_steps = int(rule.for_s // STEP_S) + 2
    match rule:
        case ThresholdRule():
            limit = rule.above if rule.above is not None else rule.below
            assert limit is not None
            sign = 1 if (rule.above is not None) == wrong else -1
            lines = [_line(rule.metric, labels, limit + sign * max(abs(limit) * 0.5, 0.5))]
            lines += [_line(rule.of, labels, 1.0)] if rule.of else []
            return Case(tuple(lines), for_steps)
        case RateRule():
            return Case(_rate_lines(rule, labels, wrong=wrong), int(rule.window_s // STEP_S) + for_steps)
        case AbsenceRule():
            lines = [] if wrong else [_line(rule.metric, labels, 1.0)]
            return Case(tuple(lines), int(rule.window_s // STEP_S) + for_steps)
        case BudgetRule():
            return Case(
                _budget_lines(rule, labels, wrong=wrong), int(rule.windows[0].long_s // STEP_S) + for_steps
            )


def _rate_lines(rule: RateRule, labels: dict[str, str], *, wrong: bool) -> tuple[Line, ...]:
    bad = _line(rule.metric, labels, 0.0, 10.0 if wrong else 0.0)
    if rule.of is None:
        return (bad,)
    other = {name: f"other-{value}" if name in rule.match else value for name, value in labels.items()}
    return (bad, _line(rule.of, {**other, "shard": "2"}, 0.0, 5.0))


def _budget_lines(rule: BudgetRule, labels: dict[str, str], *, wrong: bool) -> tuple[Line, ...]:
    if rule.within_s is None:
        bad = _line(rule.metric, {**labels, **_sample(rule.bad)}, 0.0, 9.0 if wrong else 0.0)
        return (bad, _line(rule.metric, {**labels, **{name: "good" for name in rule.bad}}, 0.0, 10.0))
    fast = {**labels, "le": bucket(rule.within_s)}
    return (
        _line(f"{rule.metric}_bucket", fast, 0.0, 1.0 if wrong else 9.9),
        _line(f"{rule.metric}_count", labels, 0.0, 10.0),
    )


def _line(name: str, labels: dict[str, str], start: float, slope: float = 0.0) -> Line:
    return Line(name, tuple(sorted(labels.items())), start, slope)


def _sample(match: Match) -> dict[str, str]:
    samples = {name: value.removeprefix("~").split("|")[0] for name, value in match.items()}
    return {
        name: value.replace(".", "0") if "." in value and "*" not in value else value
        for name, value in samples.items()
    }
