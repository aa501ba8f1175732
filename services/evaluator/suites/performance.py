"""How fast a model answers while it is evaluated: a closed loop of a few questions at a time.

For load that does not wait for the server (an open loop), limits and goodput use `mt eval load`. Answers that came from the
cache are left out of the times.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model_training.contracts.evaluations import EvaluationItem, SuiteSpec
from services.evaluator.suites.base import Row, Suite
from services.evaluator.suites.robustness import base_items

NAME = "performance"


def load(spec: SuiteSpec, path: Path | None) -> list[EvaluationItem]:
    """The items of the file (those of suite `of`, if it is given), else HumanEval's, under ids of their own."""
    return [
        item.model_copy(update={"suite": NAME, "id": f"{item.id}~{NAME}"}) for item in base_items(spec, path)
    ]


def score(rows: Sequence[Row]) -> dict[str, float]:
    """Percentiles of latency in seconds, and the mean rate at which one answer's tokens come."""
    fresh = [row for row in rows if not row.get("cached") and row["latency_s"] > 0]
    if not fresh:
        return {}
    points = np.percentile([row["latency_s"] for row in fresh], [50, 90, 95, 99])
    rates = [row["completion_tokens"] / row["latency_s"] for row in fresh]
    names = ("latency_p50_s", "latency_p90_s", "latency_p95_s", "latency_p99_s")
    return {
        **{name: float(value) for name, value in zip(names, points, strict=True)},
        "tokens_per_s": float(np.mean(rates)),
    }


SUITE = Suite(NAME, "how fast answers come, a few questions at a time", load, score)
