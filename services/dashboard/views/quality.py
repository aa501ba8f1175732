"""Evaluations as curves over time."""

from __future__ import annotations

from collections.abc import Iterable

from model_training.contracts.evaluations import Evaluation


def rates_over_time(evaluations: Iterable[Evaluation]) -> dict[str, list[tuple[int, float]]]:
    """By model and suite: when it was evaluated (milliseconds since 1970) and the share of right answers in percent."""
    found: dict[str, list[tuple[int, float]]] = {}
    for one in evaluations:
        for suite in one.suites:
            name = f"{one.model}, {suite.suite}"
            found.setdefault(name, []).append((int(one.created_at.timestamp() * 1000), 100 * suite.pass_rate))
    return {name: sorted(points) for name, points in found.items()}
