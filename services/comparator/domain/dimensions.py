"""The dimensions that arms are compared in: each with its definition, a figure and a 95% interval for every arm.

Quality is judged by rules here, which look at form alone; what a model thinks of it is in `judging`. None of these figures
decides: the verdict stands on the share of right answers, and a dimension that was not measured says what would.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from libs.common.statistics.bootstrap import bootstrap_mean
from libs.common.statistics.clusters import Floats
from libs.common.statistics.intervals import Interval, clustered_wilson_interval, percentile_interval
from model_training.contracts.comparisons import ComparisonCreate, Dimension, DimensionValue, Prices
from model_training.contracts.evaluations import ItemResult
from services.comparator.domain.arms import Arm, PairedItems
from services.comparator.domain.economics import answer_costs

DRAWS = 1_000
CONSISTENCY = "consistency"
LOOP = 3
"""A line or a run of six words that comes so often is a loop."""
RUN = 6
_WORD = re.compile(r"\w+")

Unit = Literal["share", "score", "seconds", "tokens_per_second", "usd"]
Measure = Callable[[Arm, PairedItems], DimensionValue]


@dataclass(frozen=True)
class _Line:
    """What a figure is."""

    dimension: Literal["accuracy", "performance", "quality", "consistency", "cost_effectiveness"]
    name: str
    definition: str
    unit: Unit
    more_is_better: bool = True

    def over(self, items: PairedItems, measure: Measure) -> Dimension:
        """The figure of every arm."""
        return Dimension(
            dimension=self.dimension,
            name=self.name,
            definition=self.definition,
            unit=self.unit,
            more_is_better=self.more_is_better,
            n=len(items.ids),
            arms=[measure(arm, items) for arm in items.arms],
        )


_WHOLE = "from the question to the end of the answer, retrieval included"
RIGHT = _Line("accuracy", "right answers", "share of all items answered correctly", "share")
TOKEN_F1 = _Line(
    "accuracy",
    "token F1",
    "words shared with the reference, over questions that are answered in words",
    "score",
)
MEDIAN = _Line(
    "performance",
    "median time",
    f"half of the answers take no longer, {_WHOLE}",
    "seconds",
    more_is_better=False,
)
SLOWEST = _Line(
    "performance",
    "95th percentile",
    f"19 of 20 answers take no longer, {_WHOLE}",
    "seconds",
    more_is_better=False,
)
THROUGHPUT = _Line(
    "performance", "throughput", "tokens written in a second of the machine's time", "tokens_per_second"
)
CLARITY = _Line(
    "quality",
    "clarity",
    "by rule: an answer that is not empty, not cut off at its longest and not caught in a loop",
    "share",
)
COMPLETENESS = _Line(
    "quality", "completeness", "by rule: share of the reference's words that the answer holds", "score"
)
USEFULNESS = _Line("quality", "usefulness", "by rule: right, and clear as above", "share")
AGREEMENT = _Line(
    "consistency",
    "agreement",
    "share of pairs of answers to one question, put in other words, that are the same",
    "share",
)
UNMEASURED = "not measured: add the suite consistency, which asks each question in five wordings"
THOUSAND = _Line(
    "cost_effectiveness",
    "1,000 questions",
    "machine time and tokens at the prices named, training and indexing left out",
    "usd",
    more_is_better=False,
)
THOUSAND_RIGHT = _Line(
    "cost_effectiveness",
    "1,000 right answers",
    "what it takes to get so many, at this rate of right answers",
    "usd",
    more_is_better=False,
)


def dimensions(items: PairedItems, request: ComparisonCreate) -> list[Dimension]:
    """Every dimension over the common items, of which there is at least one."""
    return [
        *_accuracy(items),
        MEDIAN.over(items, _percentile(0.5)),
        SLOWEST.over(items, _percentile(0.95)),
        THROUGHPUT.over(items, _throughput),
        *_quality(items, {arm.name: (arm.prompt or request.prompt).max_tokens for arm in request.arms}),
        _consistency(items),
        *_cost(items, request.prices),
    ]


def _accuracy(items: PairedItems) -> list[Dimension]:
    worded = items.where(lambda item: "f1" in item.scores)
    f1 = [TOKEN_F1.over(worded, _mean_of(lambda answer: answer.scores.get("f1", 0.0)))] if worded.ids else []
    return [RIGHT.over(items, _right), *f1]


def _percentile(share: float) -> Measure:
    def measure(arm: Arm, items: PairedItems) -> DimensionValue:
        seconds = [answer.latency_s for answer in items.of(arm)]
        return _value(arm, float(np.percentile(seconds, 100 * share)), percentile_interval(seconds, share))

    return measure


def _quality(items: PairedItems, max_tokens: Mapping[str, int]) -> list[Dimension]:
    """`max_tokens` is the longest answer that an arm could give, by its name."""

    def clear(arm: Arm, of: PairedItems) -> DimensionValue:
        return _share(arm, of, lambda answer: is_clear(answer, max_tokens.get(arm.name)))

    def useful(arm: Arm, of: PairedItems) -> DimensionValue:
        return _share(arm, of, lambda answer: answer.correct and is_clear(answer, max_tokens.get(arm.name)))

    return [
        CLARITY.over(items, clear),
        COMPLETENESS.over(items, _mean_of(completeness)),
        USEFULNESS.over(items, useful),
    ]


def is_clear(answer: ItemResult, max_tokens: int | None) -> bool:
    """Whether an answer can be read as it stands."""
    text = answer.output.strip()
    is_cut = max_tokens is not None and answer.completion_tokens >= max_tokens
    return bool(text) and not is_cut and not _loops(text)


def _loops(text: str) -> bool:
    lines = Counter(line.strip() for line in text.splitlines() if len(line.strip()) > 3)
    words = _WORD.findall(text.lower())
    runs = Counter(tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1))
    return any(count >= LOOP for count in [*lines.values(), *runs.values()])


def completeness(answer: ItemResult) -> float:
    """Share of the reference's different words that stand in the answer; 1 for a reference without words."""
    wanted = set(_WORD.findall(answer.reference.lower()))
    return len(wanted & set(_WORD.findall(answer.output.lower()))) / len(wanted) if wanted else 1.0


def _consistency(items: PairedItems) -> Dimension:
    asked = items.where(lambda item: item.suite == CONSISTENCY and item.of is not None)
    if asked.ids:
        return AGREEMENT.over(asked, _agreement)
    return replace(AGREEMENT, definition=UNMEASURED).over(asked, lambda arm, _: DimensionValue(arm=arm.name))


def _agreement(arm: Arm, items: PairedItems) -> DimensionValue:
    questions: dict[str, list[str]] = {}
    groups: dict[str, str] = {}
    for answer in items.of(arm):
        question = answer.of or answer.item_id
        questions.setdefault(question, []).append((answer.extracted or answer.output).strip())
        groups[question] = answer.group
    shares = {
        question: float(np.mean([a == b for a, b in combinations(answers, 2)]))
        for question, answers in questions.items()
        if len(answers) > 1
    }
    if not shares:
        return DimensionValue(arm=arm.name)
    values = np.array(list(shares.values()))
    return _of_mean(arm, values, [groups[question] for question in shares], bounded=True)


def _cost(items: PairedItems, prices: Prices) -> list[Dimension]:
    def asked(arm: Arm, of: PairedItems) -> DimensionValue:
        return _of_mean(arm, 1000 * answer_costs(arm, of, prices), of.groups)

    def right(arm: Arm, of: PairedItems) -> DimensionValue:
        """Ends of the cost over ends of the rate, on the careful side; unbounded where the rate may be zero."""
        cost, rate = asked(arm, of), _right(arm, of)
        return DimensionValue(
            arm=arm.name,
            value=_ratio(cost.value, rate.value),
            low=_ratio(cost.low, rate.high),
            high=_ratio(cost.high, rate.low),
        )

    return [THOUSAND.over(items, asked), THOUSAND_RIGHT.over(items, right)]


def _ratio(usd: float | None, rate: float | None) -> float | None:
    return usd / rate if usd is not None and rate else None


def _right(arm: Arm, items: PairedItems) -> DimensionValue:
    return _share(arm, items, lambda answer: answer.correct)


def _share(arm: Arm, items: PairedItems, holds: Callable[[ItemResult], bool]) -> DimensionValue:
    values = [holds(answer) for answer in items.of(arm)]
    return _value(arm, float(np.mean(values)), clustered_wilson_interval(values, items.groups))


def _mean_of(score: Callable[[ItemResult], float]) -> Measure:
    def measure(arm: Arm, items: PairedItems) -> DimensionValue:
        values = np.array([score(answer) for answer in items.of(arm)], dtype=np.float64)
        return _of_mean(arm, values, items.groups, bounded=True)

    return measure


def _throughput(arm: Arm, items: PairedItems) -> DimensionValue:
    """Σ tokens / Σ seconds, by the ratio's linear part about itself; an arm elsewhere takes no time of this machine."""
    answers = items.of(arm)
    total = float(sum(item.latency_s for item in arm.items.values()))
    share = arm.machine_s / total if arm.machine_s is not None and total > 0 else 1.0
    seconds = share * np.array([answer.latency_s for answer in answers], dtype=np.float64)
    tokens = np.array([answer.completion_tokens for answer in answers], dtype=np.float64)
    if seconds.sum() <= 0:
        return DimensionValue(arm=arm.name)
    ratio = float(tokens.sum() / seconds.sum())
    return _of_mean(arm, ratio + (tokens - ratio * seconds) / seconds.mean(), items.groups)


def _of_mean(arm: Arm, values: Floats, groups: Sequence[str], *, bounded: bool = False) -> DimensionValue:
    interval = bootstrap_mean(values, groups, draws=DRAWS)
    if bounded:
        interval = Interval(max(0.0, interval.low), min(1.0, interval.high))
    return _value(arm, float(values.mean()), interval)


def _value(arm: Arm, value: float, interval: Interval) -> DimensionValue:
    low, high = (end if np.isfinite(end) else None for end in (interval.low, interval.high))
    return DimensionValue(arm=arm.name, value=value, low=low, high=high)
