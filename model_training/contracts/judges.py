"""A model as judge of answers: what it is asked for, and what came out. It decides nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from model_training.contracts.base import WHOLE, Reference, Reply, Wire

Quality = Literal["clarity", "completeness", "usefulness"]
Opinion = Literal["a", "b", "tie"]


class JudgeSpec(Wire):
    """Let a model say, for pairs of arms and in both orders, which answer is clearer, more complete and more useful.

    It takes up to two calls for each item and pair of arms: 600 for 50 items of four arms.
    """

    model: Reference = Field(
        examples=["external:big", "gemma-3-4b-it"],
        description="Any served model, or `external:<name>`. It is sent questions, references and answers.",
    )
    items: Annotated[int, Field(ge=1, le=1000), WHOLE] = Field(
        default=50, description="Items that are judged, chosen by the comparison's seed."
    )
    max_tokens: Annotated[int, Field(ge=8, le=4096), WHOLE] = Field(
        default=64, description="Longest reply; more for a model that thinks aloud first."
    )


class JudgedArm(Reply):
    """How often an arm's answer was preferred to another's, a tie counting half, with a 95% interval."""

    arm: str
    preferred: float
    low: float
    high: float


class JudgedPair(Reply):
    """Opinions on two arms; `p_adjusted` is of no preference, over all pairs of this quality."""

    a: str
    b: str
    a_better: int
    b_better: int
    ties: int
    p_adjusted: float


class JudgedQuality(Reply):
    """One quality over all judged items. An opinion that does not survive the other order is a tie."""

    name: Quality
    definition: str
    arms: list[JudgedArm]
    pairs: list[JudgedPair]
    flip_rate: float
    """Share of pairs in which the order alone changed who is better."""


class JudgedItem(Reply):
    """One item and pair of arms."""

    item_id: str
    a: str
    b: str
    opinions: dict[Quality, Opinion]
    flipped: list[Quality] = []
    by_tests: Opinion
    """Whose answer is right, where the grader tells the two apart."""


class JudgeReport(Reply):
    """What the judge thinks, and how far it can be believed."""

    model: str
    items: int
    """Items with an opinion, of those that were chosen."""
    of: int
    calls: int
    unreadable: int
    """Replies without an opinion, and calls that were refused; each counts as a tie."""
    flip_rate: float
    agreement: float | None = None
    """With the grader, where both prefer one answer: the judge by its usefulness."""
    agreement_low: float | None = None
    agreement_high: float | None = None
    agreement_n: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    qualities: list[JudgedQuality] = []
    judged: list[JudgedItem] = []
    trusted: bool = False
    words: str
