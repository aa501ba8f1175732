"""What an evaluation's answers cost: time of the machine and tokens, at the prices that were given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model_training.contracts.evaluations import EvaluationCost
from model_training.contracts.prices import Prices


def cost_of(rows: Sequence[dict[str, Any]], duration_s: float, prices: Prices | None) -> EvaluationCost:
    """The cost of graded items.

    Args:
        rows: `ItemResult`s as dictionaries.
        duration_s: the evaluation's own time; answers overlap, so their latencies add up to more.
    """
    prices = prices or Prices()
    fresh = [row for row in rows if not row.get("cached")]
    read, written = (sum(row[name] for row in fresh) for name in ("prompt_tokens", "completion_tokens"))
    # What the cache answered took none of the time.
    machine_s = duration_s if fresh else 0.0
    hour = prices.machine_hour_usd + prices.machine_watts / 1000 * prices.electricity_kwh_usd
    tokens = read * prices.million_prompt_tokens_usd + written * prices.million_completion_tokens_usd
    usd = machine_s / 3600 * hour + tokens / 1e6
    right = sum(bool(row["correct"]) for row in fresh)
    return EvaluationCost(
        items=len(rows),
        cached=len(rows) - len(fresh),
        machine_s=machine_s,
        prompt_tokens=read,
        completion_tokens=written,
        usd=usd,
        usd_per_item=usd / len(fresh) if fresh else None,
        usd_per_right=usd / right if right else None,
    )
