"""Does a model say the same twice? Each item in five wordings, and with `samples` several times each.

Scores: `agreement`, the share of pairs of answers to one question that are equal; `spread`, one minus the mean chrF between
them; `all_right`, the share of questions that every answer gets right. pass^k is with the other suites' scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, islice
from pathlib import Path
from statistics import fmean

from model_training.contracts.evaluations import EvaluationItem, SuiteSpec
from services.evaluator.metrics import chrf
from services.evaluator.suites.base import Row, Suite
from services.evaluator.suites.robustness import answer, base_items, in_variants
from services.evaluator.suites.variants import WORDINGS

NAME = "consistency"
_MAX_PAIRS = 100
"""Pairs of answers to one question that are looked at."""


def load(spec: SuiteSpec, path: Path | None) -> list[EvaluationItem]:
    """A `limit` counts questions, each of which comes in all wordings."""
    return in_variants(base_items(spec, path)[: spec.limit], WORDINGS, NAME)


def score(rows: Sequence[Row]) -> dict[str, float]:
    """See the module."""
    questions: dict[str, list[Row]] = {}
    for row in rows:
        questions.setdefault(row["of"], []).append(row)
    agreement: list[float] = []
    spread: list[float] = []
    for answers in questions.values():
        pairs = list(islice(combinations(map(answer, answers), 2), _MAX_PAIRS))
        if pairs:
            agreement.append(fmean(a == b for a, b in pairs))
            spread.append(fmean(0.0 if a == b else 1 - chrf(a, b) for a, b in pairs))
    if not agreement:
        return {}
    all_right = fmean(all(row["correct"] for row in answers) for answers in questions.values())
    return {"agreement": fmean(agreement), "spread": fmean(spread), "all_right": all_right}


SUITE = Suite(
    NAME, "the same questions in other words and several times; how far the answers agree", load, score
)
