"""What the report's page shows, in the order in which it shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_training.contracts.comparisons import ArmResult, Bound, ComparisonReport, SideBySide
from model_training.contracts.evaluations import ItemResult
from services.comparator.domain.charts import (
    Axis,
    Bar,
    LossChart,
    PairChart,
    SuiteChart,
    bar,
    loss_chart,
    pair_chart,
    rate_axis,
    suite_chart,
)
from services.comparator.domain.dataset_view import DatasetView, build_dataset_view
from services.comparator.domain.differences import difference
from services.comparator.domain.results import PRIMARY

MAX_CARDS = 5_000
"""Items with their answers on one page; of four arms they are about 12 MB, which a browser opens in a second or two."""
WHOLE_CARDS = 1_000
"""Items that are shown with the prompts and passages, which are most of a page."""


@dataclass(frozen=True)
class SourceView:
    """A passage that an answer was given; any part may be empty."""

    title: str
    place: str
    text: str


@dataclass(frozen=True)
class AnswerView:
    """One arm's answer to an item."""

    arm: str
    answer: ItemResult
    sources: list[SourceView]
    difference: list[tuple[str, str]]
    """Words of a wrong answer against its reference: `same`, `missing` or `added`; empty where it says nothing."""


@dataclass(frozen=True)
class ItemCard:
    """One item with its answers in the arms' order and what the filters ask about."""

    item: SideBySide
    answers: list[AnswerView]
    kind: str
    """`disagree`, `all-right`, `all-wrong` or `ungraded`."""


@dataclass(frozen=True)
class Page:
    """Everything that the templates need beside the report itself."""

    graded: bool
    rate_axis: Axis
    arms: list[tuple[ArmResult, Bar]]
    bounds: list[tuple[Bound, Bar]]
    primary: PairChart | None
    secondary: list[PairChart]
    suites: list[SuiteChart]
    has_text_scores: bool
    loss: LossChart | None
    items: list[ItemCard]
    whole_cards: int
    more_items: int
    """Items that the page leaves out; `kinds` counts those that it shows."""
    kinds: dict[str, int]
    suite_names: list[str]
    dataset: DatasetView


def build_page(report: ComparisonReport, items: Sequence[SideBySide]) -> Page:
    """The page of a report and its items."""
    graded = bool(report.arms) and report.arms[0].n > 0
    suite_names = list(report.arms[0].suites) if graded else []
    rates = [arm.ci_high for arm in [*report.arms, *(bound.arm for bound in report.bounds)]]
    rates += [arm.suites[name]["ci_high"] for arm in report.arms for name in suite_names]
    axis = rate_axis(max(rates)) if graded else rate_axis(1.0)
    metrics = list(dict.fromkeys(pair.metric for pair in report.pairs))
    names = [arm.name for arm in [*report.arms, *(bound.arm for bound in report.bounds)]]
    cards = _most_telling([_card(item, names) for item in items])
    return Page(
        graded=graded,
        rate_axis=axis,
        arms=[(arm, bar(axis, arm.pass_rate, arm.ci_low, arm.ci_high)) for arm in report.arms],
        bounds=[
            (one, bar(axis, one.arm.pass_rate, one.arm.ci_low, one.arm.ci_high)) for one in report.bounds
        ],
        primary=pair_chart(report, PRIMARY) if PRIMARY in metrics else None,
        secondary=[pair_chart(report, metric) for metric in metrics if metric != PRIMARY],
        suites=[suite_chart(report, name, axis) for name in suite_names],
        has_text_scores=any(arm.qa_f1 is not None or arm.qa_exact_match is not None for arm in report.arms),
        loss=loss_chart(report.training.get("losses") or []),
        items=cards,
        whole_cards=WHOLE_CARDS,
        more_items=len(items) - len(cards),
        kinds={
            kind: sum(card.kind == kind for card in cards)
            for kind in ("disagree", "all-right", "all-wrong", "ungraded")
        },
        suite_names=list(dict.fromkeys(item.suite for item in items)),
        dataset=build_dataset_view(report.dataset),
    )


def _most_telling(cards: list[ItemCard]) -> list[ItemCard]:
    """As many as a page can carry, in their order; where that is not all, those that tell arms apart come first."""
    if len(cards) <= MAX_CARDS:
        return cards
    ranked = sorted(
        range(len(cards)), key=lambda i: (cards[i].kind != "ungraded", cards[i].kind != "disagree", i)
    )
    return [cards[i] for i in sorted(ranked[:MAX_CARDS])]


def _card(item: SideBySide, order: Sequence[str]) -> ItemCard:
    answers = [
        AnswerView(
            name,
            item.answers[name],
            [_source(source) for source in item.answers[name].sources],
            difference(item.reference, item.answers[name]),
        )
        for name in order
        if name in item.answers
    ]
    right = [view.answer.correct for view in answers]
    if any(view.answer.status == "not_graded" for view in answers):
        kind = "ungraded"
    elif all(right):
        kind = "all-right"
    else:
        kind = "disagree" if any(right) else "all-wrong"
    return ItemCard(item, answers, kind)


def _source(given: Mapping[str, Any]) -> SourceView:
    """A passage as retrieval reports it; whatever it leaves out stays empty."""
    where = given.get("source")
    where = where if isinstance(where, Mapping) else {}
    path, line = where.get("path"), where.get("line_start")
    place = f"{path}:{line}" if path and line else str(path or where.get("url") or "")
    return SourceView(
        str(given.get("title") or given.get("id") or "passage"), place, str(given.get("text") or "")
    )
