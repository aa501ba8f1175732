"""A metric of Hugging Face's `evaluate`: from the operator's folder, an installed package, or the hub by permission.

Such a metric is code that runs in the evaluation's process with its rights. A folder and a package are the operator's
choice; from the hub only names that `MT_METRICS_FROM_HUB` lists are fetched.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from libs.common.errors import InvalidInput
from model_training.contracts.evaluations import EvaluationItem, TextCheck
from services.evaluator.domain import Answer, Grade, NotAnswered

PREFIX = "evaluate:"
_MOST_NUMBERS = 20


class HubMetric:
    """One metric, computed for each answer alone. The scores are named `evaluate.<metric>`, or `….<part>` for several."""

    def __init__(self, name: str, folder: Path | None, from_hub: Collection[str]) -> None:
        """Load it.

        Raises:
            InvalidInput: `evaluate` is not installed, nothing of that name is at hand, or it cannot be loaded.
        """
        self.name = name
        self._short = name.removeprefix(PREFIX)
        self._lock = threading.Lock()
        if find_spec("evaluate") is None:
            raise InvalidInput(
                f"{name} needs Hugging Face's `evaluate`, which is not installed where the evaluator runs.",
                param="metrics",
                hint="pip install 'model-training[metrics]'",
            )
        self._metric = self._load(_source(self._short, folder, from_hub))

    def _load(self, source: str) -> Any:
        import evaluate

        try:
            # In memory, so that evaluations on one machine do not wait for each other's files.
            return evaluate.load(source, keep_in_memory=True)
        except Exception as error:  # whatever the metric's own code raises
            raise InvalidInput(
                f"the metric {self._short!r} cannot be loaded: {type(error).__name__}: {error}",
                param="metrics",
                hint="`python -c 'import evaluate; evaluate.load(…)'` where the evaluator runs shows more.",
            ) from error

    def score(self, item: EvaluationItem, answer: Answer, grade: Grade) -> Mapping[str, float]:
        """Every finite number that the metric gives for the answer and its references."""
        text = grade.extracted or answer.text
        accepted = item.check.accept if isinstance(item.check, TextCheck) else []
        with self._lock:  # a metric collects what it is given in itself
            try:
                found = self._compute(text, [item.answer, *accepted])
            except Exception as error:  # whatever the metric's own code raises
                raise NotAnswered(f"{self._short}: {type(error).__name__}: {error}") from error
        numbers = {
            name: float(value)
            for name, value in _flat(found).items()
            if isinstance(value, (int, float)) and math.isfinite(value)
        }
        mine = f"evaluate.{self._short.replace('/', '.')}"
        if len(numbers) == 1:
            return {mine: next(iter(numbers.values()))}
        return {f"{mine}.{name}": value for name, value in list(numbers.items())[:_MOST_NUMBERS]}

    def _compute(self, text: str, references: list[str]) -> Mapping[str, Any]:
        """Metrics take one reference or a list of them; which, their features tell."""
        features = self._metric.features
        wants_several = any(
            not hasattr(one["references"], "dtype")
            for one in (features if isinstance(features, list) else [features])
        )
        reference: Any = references if wants_several else references[0]
        return self._metric.compute(predictions=[text], references=[reference]) or {}


def _source(name: str, folder: Path | None, from_hub: Collection[str]) -> str:
    local = [folder / name, folder / f"{name}.py"] if folder is not None and "/" not in name else []
    for path in local:
        if path.exists():
            return str(path)
    if name.isidentifier() and (spec := find_spec(name)) is not None and spec.origin is not None:
        return spec.origin
    if name in from_hub:
        return name
    where = f"in {folder}" if folder is not None else "in a folder (MT_METRICS_DIR is not set)"
    raise InvalidInput(
        f"the metric {name!r} is neither {where} nor an installed package, and is not fetched from the hub.",
        param="metrics",
        hint=f'Put it there, or allow its code by name: MT_METRICS_FROM_HUB=["{name}"].',
    )


def _flat(found: Mapping[str, Any]) -> dict[str, Any]:
    """A list of one number counts as the number: many metrics give one entry an answer."""
    return {
        name: value[0] if isinstance(value, list) and len(value) == 1 else value  # pyright: ignore[reportUnknownVariableType]
        for name, value in found.items()
    }
