"""What answers and training cost, and when training pays for itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

from model_training.contracts.comparisons import ArmResult, Prices


def cost_usd(seconds: float, prices: Prices) -> float:
    """The price of machine time."""
    return seconds / 3600 * prices.machine_hour_usd


def cost_notes(
    arms: Sequence[ArmResult], tuned: frozenset[str], training_s: float | None, prices: Prices
) -> list[str]:
    """Sentences on cost: of a thousand questions by arm, and of training against what it saves by question.

    Args:
        tuned: names of the arms that stand on a tuned model.
        training_s: machine seconds that training took, None if unknown.
    """
    asked = [arm for arm in arms if arm.n]
    if not asked:
        return []
    each = ", ".join(f"{arm.name} {dollars(1000 * arm.cost_usd / arm.n)}" for arm in asked)
    notes = [
        f"A thousand questions cost, at {dollars(prices.machine_hour_usd)} an hour of this machine: {each}."
    ]
    if training_s is None or not tuned:
        return notes
    training = cost_usd(training_s, prices)
    notes.append(f"Training took {training_s:,.0f} s of machine time, {dollars(training)}, once per version.")
    return notes + _break_even(asked, tuned, training)


def _break_even(arms: Sequence[ArmResult], tuned: frozenset[str], training: float) -> list[str]:
    """The cheapest tuned arm against the cheapest arm that retrieves instead."""
    with_tuning = [arm for arm in arms if arm.name in tuned]
    instead = [arm for arm in arms if arm.name not in tuned and arm.effort == 1]
    if not with_tuning or not instead:
        return []
    a = min(with_tuning, key=lambda arm: arm.cost_usd / arm.n)
    b = min(instead, key=lambda arm: arm.cost_usd / arm.n)
    saved = b.cost_usd / b.n - a.cost_usd / a.n
    if saved <= 0:
        return [f"By cost alone training never pays here: {a.name} costs more per question than {b.name}."]
    return [
        f"By cost alone {a.name} is cheaper than {b.name} after {math.ceil(training / saved):,} questions, "
        "whatever the quality of the answers."
    ]


def dollars(amount: float) -> str:
    """An amount with as many digits as it needs: `$0.10`, `$0.0042`, `under $0.0001`."""
    if amount == 0 or amount >= 0.1:
        return f"${amount:,.2f}"
    return f"${amount:.2g}" if amount >= 1e-4 else "under $0.0001"
