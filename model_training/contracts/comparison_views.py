"""Looking into a finished comparison: its items as a table that is filtered and cut, and its economics at other prices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from model_training.contracts.base import Reply, Wire
from model_training.contracts.comparisons import BreakEven, Prices, Profile, ProfileResult

Outcome = Literal["disagree", "all_right", "all_wrong", "ungraded"]
"""What the arms make of an item: some right and some wrong, all right, all wrong, or nothing that could be graded."""


class MatrixCell(Reply):
    """One arm's answer to one item, without its text. `latency_s` is in seconds."""

    correct: bool
    score: float
    status: str
    latency_s: float


class MatrixRow(Reply):
    """One item. `position` counts from 0 in the report's order and never changes; `question` is cut at 300 characters."""

    position: int
    item_id: str
    suite: str
    form: str
    question: str
    outcome: Outcome
    cells: dict[str, MatrixCell]


class Matrix(Reply):
    """A stretch of a comparison's items. `outcomes`, `suites` and `forms` count all items, `matched` those that fit."""

    items: int
    matched: int
    offset: int
    outcomes: dict[str, int] = {}
    suites: dict[str, int] = {}
    forms: dict[str, int] = {}
    rows: list[MatrixRow]


class WhatIf(Wire):
    """Prices and uses to look at the same answers with. Without `profiles` those of the report."""

    prices: Prices = Field(default=Prices(), examples=[{"machine_hour_usd": 0.5}])
    profiles: Annotated[list[Profile], Field(max_length=20)] | None = None


class WhatIfReply(Reply):
    """What other prices make of the same answers. The test of who is right more often does not depend on prices.

    `cost_usd` and `fixed_cost_usd` are by arm: of 1,000 questions, and before the first.
    """

    prices: Prices
    cost_usd: dict[str, float]
    fixed_cost_usd: dict[str, float]
    break_even: list[BreakEven]
    profiles: list[ProfileResult]
