"""Whether an evaluation got worse than a baseline, item by item."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from model_training.contracts.base import Reference, Reply, Wire

Verdict = Literal["no_fall", "fell", "cannot_tell"]


class BaselineItem(Wire):
    """One item of a baseline that comes from a file; more fields of an `ItemResult` may stand beside and are not read."""

    item_id: str = Field(min_length=1, max_length=300)
    suite: str
    group: str
    correct: bool
    of: str | None = None


class GateRequest(Wire):
    """Compare with an earlier evaluation, or with the items of one that come along."""

    baseline: Reference | None = Field(default=None, examples=["eval_01jabc"])
    items: list[BaselineItem] | None = Field(default=None, max_length=100_000)
    largest_fall: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.02, description="A fall of the rate that would not matter, in parts of 1."
    )
    alpha: float = Field(
        default=0.05, gt=0, lt=1, description="How often a gate may close by chance, over all suites."
    )


class GateSuite(Reply):
    """One suite. `wins` and `losses` are items that only the new evaluation, or only the baseline, gets right."""

    suite: str
    verdict: Verdict
    reason: str
    n: int
    rate: float
    baseline_rate: float
    difference: float
    low: float = Field(description="The 95% interval of the difference.")
    high: float
    p: float = Field(description="Of a sign-flip test by group; Holm's adjustment over the suites is made.")
    smallest_visible: float = Field(
        description="The smallest difference that so many items show 8 times of 10."
    )
    wins: list[str]
    losses: list[str]
    only_new: int = Field(description="Items that the baseline lacks; they are left out.")
    only_baseline: int


class GateReply(Reply):
    """`passed` unless a suite fell. `verdict` is the worst of the suites'."""

    evaluation: str
    baseline: str | None
    passed: bool
    verdict: Verdict
    suites: list[GateSuite]
