"""Does a model keep its answers when a question is put badly? Every item as it is and in each of ten changed forms.

Scores: `kept.<change>`, the rate of right answers over that of the unchanged questions, and `agreement.<change>`, the share
of answers that are the same as to the unchanged question.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model_training.contracts.evaluations import EvaluationItem, SuiteSpec
from services.evaluator.metrics import normalise
from services.evaluator.suites.base import Row, Suite
from services.evaluator.suites.code_generation import load_humaneval
from services.evaluator.suites.files import items_of_suite, read_items
from services.evaluator.suites.variants import PERTURBATIONS, Variant, original, vary

NAME = "robustness"


def base_items(spec: SuiteSpec, path: Path | None) -> list[EvaluationItem]:
    """The items that are changed: of the file (those of suite `of`, if it is given), else HumanEval's."""
    if path is None:
        return load_humaneval()
    return read_items(path) if spec.of is None else items_of_suite(path, spec.of, spec.file)


def in_variants(
    items: Sequence[EvaluationItem], variants: Sequence[Variant], suite: str
) -> list[EvaluationItem]:
    """Each item as it is, and after it its variants."""
    return [
        one for item in items for one in (original(item, suite), *(vary(item, v, suite) for v in variants))
    ]


def load(spec: SuiteSpec, path: Path | None) -> list[EvaluationItem]:
    """A `limit` counts items before they are changed: none is left without its variants."""
    return in_variants(base_items(spec, path)[: spec.limit], PERTURBATIONS, NAME)


def score(rows: Sequence[Row]) -> dict[str, float]:
    """See the module."""
    plain = {row["of"]: row for row in rows if row["variant"] == "original" and not row.get("sample")}
    changed: dict[str, list[tuple[Row, Row]]] = {}
    for row in rows:
        if row["variant"] != "original" and row["of"] in plain:
            changed.setdefault(row["variant"], []).append((plain[row["of"]], row))
    scores: dict[str, float] = {}
    for name, pairs in changed.items():
        right = sum(one["correct"] for one, _ in pairs)
        if right:
            scores[f"kept.{name}"] = sum(two["correct"] for _, two in pairs) / right
        scores[f"agreement.{name}"] = sum(answer(one) == answer(two) for one, two in pairs) / len(pairs)
    return scores


def answer(row: Row) -> str:
    """What was answered, in a form in which equal answers are equal texts."""
    return normalise(row.get("extracted") or row.get("output") or "")


SUITE = Suite(
    NAME, "the same questions with typos, noise, other languages, injections; what is kept", load, score
)
