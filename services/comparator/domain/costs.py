"""What machine time costs, in numbers and in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from model_training.contracts.comparisons import ArmResult, Prices


def cost_usd(seconds: float, prices: Prices) -> float:
    """The price of machine time."""
    return seconds / 3600 * hourly_usd(prices)


def hourly_usd(prices: Prices) -> float:
    """An hour of the machine, its electricity included."""
    return prices.machine_hour_usd + prices.machine_watts / 1000 * prices.electricity_kwh_usd


def cost_notes(arms: Sequence[ArmResult], training_s: float | None, prices: Prices) -> list[str]:
    """Sentences on cost: of a thousand questions by arm, and of training.

    Args:
        training_s: machine seconds that training took, None if unknown or if nothing was trained.
    """
    asked = [arm for arm in arms if arm.n]
    if not asked:
        return []
    each = ", ".join(f"{arm.name} {dollars(1000 * arm.cost_usd / arm.n)}" for arm in asked)
    notes = [f"A thousand questions cost, at {dollars(hourly_usd(prices))} an hour of this machine: {each}."]
    if training_s is not None:
        training = dollars(cost_usd(training_s, prices))
        notes.append(f"Training took {training_s:,.0f} s of machine time, {training}, once per version.")
    return notes


def dollars(amount: float) -> str:
    """An amount with as many digits as it needs: `$0.10`, `$0.0042`, `under $0.0001`."""
    if amount == 0 or amount >= 0.1:
        return f"${amount:,.2f}"
    return f"${amount:.2g}" if amount >= 1e-4 else "under $0.0001"
