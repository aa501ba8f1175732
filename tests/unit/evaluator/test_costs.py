"""What answers cost: shared time, tokens, electricity, and answers that took nothing."""

from __future__ import annotations

from typing import Any

import pytest

from model_training.contracts.prices import Prices
from services.evaluator.costs import cost_of


def row(**changes: Any) -> dict[str, Any]:
    return {"correct": True, "prompt_tokens": 1000, "completion_tokens": 100, "cached": False, **changes}


def test_time_and_tokens_are_counted_at_their_prices() -> None:
    prices = Prices(
        machine_hour_usd=3.6,
        electricity_kwh_usd=0.5,
        machine_watts=200,
        million_prompt_tokens_usd=2,
        million_completion_tokens_usd=10,
    )
    cost = cost_of([row(), row(correct=False)], 10.0, prices)
    assert cost.usd == pytest.approx(10 / 3600 * (3.6 + 0.2 * 0.5) + 2000 * 2 / 1e6 + 200 * 10 / 1e6)
    assert cost.usd_per_item == pytest.approx(cost.usd / 2)
    assert cost.usd_per_right == pytest.approx(cost.usd)


def test_answers_from_the_cache_took_nothing() -> None:
    cost = cost_of([row(cached=True), row(correct=False)], 36.0, None)
    assert (cost.items, cost.cached, cost.prompt_tokens) == (2, 1, 1000)
    assert cost.usd == pytest.approx(0.001)
    assert (cost.usd_per_item, cost.usd_per_right) == (pytest.approx(0.001), None)
    kept = cost_of([row(cached=True)], 36.0, None)
    assert (kept.usd, kept.machine_s, kept.usd_per_item) == (0, 0, None)
    assert cost_of([], 1.0, None).usd_per_item is None
