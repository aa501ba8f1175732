"""Steps of the sliders that ask what answers are worth, and what a comparison looks like at them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from model_training.contracts.comparison_views import WhatIf
from model_training.contracts.comparisons import BreakEven, Prices, Profile

MACHINE_HOUR_USD = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
WRONG_USD = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0)
A_MONTH = (100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6, 1e7)


def nearest(steps: Sequence[float], value: float) -> int:
    """The position of the step that is nearest to a value."""
    right = min(bisect_left(steps, value), len(steps) - 1)
    left = max(0, right - 1)
    return left if abs(steps[left] - value) <= abs(steps[right] - value) else right


def question(prices: Prices, use: Profile, *, machine: int, wrong: int, month: int) -> WhatIf:
    """What is asked of the platform at these positions of the sliders."""
    return WhatIf(
        prices=prices.model_copy(
            update={"machine_hour_usd": MACHINE_HOUR_USD[machine], "wrong_answer_usd": WRONG_USD[wrong]}
        ),
        profiles=[
            use.model_copy(
                update={"wrong_answer_usd": WRONG_USD[wrong], "questions_per_month": A_MONTH[month]}
            )
        ],
    )


def pays(found: BreakEven) -> str:
    """When the second arm has paid for itself, in a few words."""
    if found.low is None:
        return "never"
    if found.high == 0:
        return "from the first question"
    if found.high is None:
        start = (
            f"after {found.low:,.0f} questions at the earliest" if found.low else "from the first question"
        )
        return f"perhaps {start}, perhaps never"
    about = (
        f"after about {found.questions:,.0f} questions"
        if found.questions is not None
        else "after some questions"
    )
    return f"{about} (95%: {found.low:,.0f} to {found.high:,.0f})"
