"""Looking at a comparison while its items still come in, as often as one likes, without more false alarms.

The measure is an e-value: under "no difference" its mean is at most 1 at every moment, so the chance that it ever reaches
1/α is at most α (Ville's inequality). Source: Ramdas, Grünwald, Vovk and Shafer, "Game-theoretic statistics and safe
anytime-valid inference", Statistical Science 38 (2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from libs.common.statistics.quantiles import log_beta


def paired_e_value(wins: int, losses: int, *, prior: float = 1.0) -> float:
    """The e-value against "an item that only one arm gets right is as often won as lost".

    The likelihood ratio of a Beta(prior, prior) mixture of chances against 1/2: 2^(w + l) B(prior + w, prior + l) /
    B(prior, prior). Needs independent items; with groups, count a group once, as won, lost or neither.

    Raises:
        ValueError: a negative count, or a prior that is not positive.
    """
    if min(wins, losses) < 0 or prior <= 0:
        raise ValueError(f"counts must not be negative and the prior positive, got {wins}, {losses}, {prior}")
    log = (wins + losses) * math.log(2) + log_beta(prior + wins, prior + losses) - log_beta(prior, prior)
    return math.exp(min(log, 700.0))


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one look, in order to be able to recount all of them."""

    items: int
    wins: int
    losses: int
    e_value: float
    decided: bool


@dataclass(slots=True)
class SequentialComparison:
    """A paired comparison that may be looked at after any item. `looks` logs each look."""

    alpha: float = 0.05
    prior: float = 1.0
    items: int = 0
    wins: int = 0
    losses: int = 0
    looks: list[Look] = field(default_factory=list[Look])
    largest: float = 1.0

    def add(self, a_correct: bool, b_correct: bool) -> None:
        """Count one more item; `wins` are those that only b gets right."""
        self.items += 1
        self.wins += b_correct and not a_correct
        self.losses += a_correct and not b_correct
        self.largest = max(self.largest, paired_e_value(self.wins, self.losses, prior=self.prior))

    def look(self) -> Look:
        """The state now, logged. It is decided once the e-value has ever reached 1/α, and stays so."""
        e_value = paired_e_value(self.wins, self.losses, prior=self.prior)
        seen = Look(self.items, self.wins, self.losses, e_value, self.largest >= 1 / self.alpha)
        self.looks.append(seen)
        return seen

    @property
    def p(self) -> float:
        """A p-value that is valid at any moment: one over the largest e-value so far."""
        return min(1.0, 1 / self.largest)
