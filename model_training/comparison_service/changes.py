"""Two runs of one comparison: what changed, and how much of it is more than luck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from model_training.contracts.comparisons import ArmResult, ComparisonReport, SideBySide


def changes(
    before: ComparisonReport,
    after: ComparisonReport,
    answers_before: Sequence[SideBySide],
    answers_after: Sequence[SideBySide],
) -> list[str]:
    """Sentences, the verdict first. A rate counts as moved when neither interval holds the other's rate."""
    return [
        _verdicts(before, after),
        *_arms(before, after),
        *_items(answers_before, answers_after),
        *_environment(before.environment, after.environment),
    ]


def _verdicts(before: ComparisonReport, after: ComparisonReport) -> str:
    then, now = (report.verdict.recommended or "none" for report in (before, after))
    if then == now:
        return f"Recommended is {now}, as before."
    return f"Recommended is {now}; it was {then}. {after.verdict.reason}"


def _arms(before: ComparisonReport, after: ComparisonReport) -> list[str]:
    old = {arm.name: arm for arm in before.arms}
    new = {arm.name: arm for arm in after.arms}
    sentences = [_arm(old[name], arm) for name, arm in new.items() if name in old]
    sentences += [f"{name} is new." for name in new if name not in old]
    return [*sentences, *(f"{name} is gone." for name in old if name not in new)]


def _arm(before: ArmResult, after: ArmResult) -> str:
    apart = not (before.ci_low <= after.pass_rate <= before.ci_high) and not (
        after.ci_low <= before.pass_rate <= after.ci_high
    )
    moved = (
        "moved" if apart else "as before" if before.correct == after.correct else "within what chance does"
    )
    pace = f"{after.latency_p50_s:.2f} s a median answer, {before.latency_p50_s:.2f} s before"
    return f"{after.name}: {after.pass_rate:.1%} right, {before.pass_rate:.1%} before: {moved}; {pace}."


def _items(before: Sequence[SideBySide], after: Sequence[SideBySide]) -> list[str]:
    old = {item.item_id: item for item in before}
    both = [(old[item.item_id], item) for item in after if item.item_id in old]
    if not both:
        return ["The two runs have no item in common."]
    arms = dict.fromkeys(name for then, now in both for name in now.answers if name in then.answers)
    sentences = [sentence for name in arms if (sentence := _flipped(name, both))]
    only = len(old) + len(after) - 2 * len(both)
    return sentences + ([f"{only:,} items are in one of the two runs only."] if only else [])


def _flipped(arm: str, both: Sequence[tuple[SideBySide, SideBySide]]) -> str | None:
    pairs = [
        (then.answers[arm], now.answers[arm])
        for then, now in both
        if arm in then.answers and arm in now.answers
    ]
    gained = sum(now.correct and not then.correct for then, now in pairs)
    lost = sum(then.correct and not now.correct for then, now in pairs)
    reworded = sum(then.output != now.output for then, now in pairs)
    if not reworded and not gained and not lost:
        return None
    return f"{arm}: {reworded:,} of {len(pairs):,} answers are worded otherwise; {gained} became right, {lost} wrong."


def _environment(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    old, new = _flat(before), _flat(after)
    return [
        f"{name}: {new.get(name, 'not there')}, was {old.get(name, 'not there')}."
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _flat(environment: Mapping[str, Any]) -> dict[str, Any]:
    versions = environment.get("versions") or {}
    return {key: value for key, value in environment.items() if key != "versions"} | dict(versions)
