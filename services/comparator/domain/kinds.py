"""Where the arms differ: by kind of question and by the package that a question is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from libs.common.statistics.multiplicity import holm
from model_training.contracts.comparisons import KindResult, PairResult
from model_training.contracts.evaluations import ItemResult
from services.comparator.domain.arms import PairedItems
from services.comparator.domain.results import rate_pair
from services.comparator.domain.words import listed

By = Literal["form", "package"]
OF: dict[By, Callable[[ItemResult], str | None]] = {
    "form": lambda item: item.form,
    "package": lambda item: item.source.package,
}
FEWEST = 10
"""Fewer items of one kind are counted in, and not shown alone."""


@dataclass(frozen=True)
class _Kind:
    by: By
    name: str
    items: PairedItems
    pairs: Sequence[PairResult]


def by_kind(items: PairedItems, *, alpha: float, smallest_useful: float) -> list[KindResult]:
    """Every form and every package with enough items; nothing where there is only one of a sort.

    All pairs of arms in all kinds are one Holm family: a look at twenty kinds must not find one by luck.
    """
    found = [kind for by in OF for kind in _kinds(items, by)]
    adjusted = iter(holm([pair.p for kind in found for pair in kind.pairs]))
    return [_result(kind, [next(adjusted) for _ in kind.pairs], alpha, smallest_useful) for kind in found]


def _kinds(items: PairedItems, by: By) -> list[_Kind]:
    if not items.ids:
        return []
    of = OF[by]
    names = list(dict.fromkeys(of(item) for item in items.of(items.arms[0])))
    parts = {name: items.where(lambda item, name=name: of(item) == name) for name in names if name}
    shown = {name: part for name, part in parts.items() if len(part.ids) >= FEWEST}
    if len(names) < 2:
        return []
    return [
        _Kind(
            by,
            name,
            part,
            [rate_pair(a, b, part, f"correct:{name}").result for a, b in combinations(part.arms, 2)],
        )
        for name, part in shown.items()
    ]


def _result(kind: _Kind, adjusted: Sequence[float], alpha: float, smallest_useful: float) -> KindResult:
    better = {
        (pair.a, pair.b): p < alpha and pair.difference >= smallest_useful
        for pair, p in zip(kind.pairs, adjusted, strict=True)
    }
    names = [arm.name for arm in kind.items.arms]
    proven = [name for i, name in enumerate(names) if i and all(better[other, name] for other in names[:i])]
    n = len(kind.items.ids)
    right = {arm.name: sum(item.correct for item in kind.items.of(arm)) for arm in kind.items.arms}
    favours = proven[-1] if proven else None
    return KindResult(
        by=kind.by,
        name=kind.name,
        n=n,
        rates={name: count / n for name, count in right.items()},
        favours=favours,
        words=_words(kind.name, n, right, favours),
    )


def _words(name: str, n: int, right: dict[str, int], favours: str | None) -> str:
    counts = listed([f"{arm} {count}" for arm, count in right.items()])
    end = (
        f"{favours} is better than every simpler arm"
        if favours
        else "these items tell no arm apart from the simplest"
    )
    return f"{name.replace('_', ' ')}, {n:,} items ({counts} right): {end}."
