"""What each answer cost, what an arm costs before its first answer, and what that makes of a right answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from libs.common.statistics.clusters import Floats
from model_training.contracts.prices import Prices
from services.comparator.domain.arms import RAG_PREFIX, Arm, PairedItems
from services.comparator.domain.costs import cost_usd


@dataclass(frozen=True)
class Setup:
    """Machine seconds that were really spent before the first answer; what is unknown counts as zero."""

    training_s: float | None = None
    indexing_s: Mapping[str, float] = field(default_factory=dict[str, float])
    """By index name."""

    def cost_of(self, arm: Arm, prices: Prices) -> float:
        """US dollars for the arm's training and index."""
        return self.renewal_cost_of(arm, prices, training=1.0, indexing=1.0)

    def renewal_cost_of(self, arm: Arm, prices: Prices, *, training: float, indexing: float) -> float:
        """US dollars for these shares of the arm's training and index: what one change of the library costs."""
        seconds = training * (self.training_s or 0.0) if arm.is_tuned else 0.0
        if arm.model.startswith(RAG_PREFIX):
            index = arm.model.removeprefix(RAG_PREFIX).partition("@")[0]
            seconds += indexing * self.indexing_s.get(index, 0.0)
        return cost_usd(seconds, prices)


def answer_costs(arm: Arm, items: PairedItems, prices: Prices) -> Floats:
    """US dollars of each answer, shape (items,): its share of the evaluation's machine time, and its tokens.

    Answers overlap, so their latencies add up to more than the machine was busy; each gets the share of the
    evaluation's own time that its latency has in all latencies. An arm with prices of its own is counted by those.
    """
    answers, prices = items.of(arm), arm.prices or prices
    latencies = np.array([answer.latency_s for answer in answers], dtype=np.float64)
    total = float(sum(item.latency_s for item in arm.items.values()))
    busy_s = latencies * (arm.machine_s / total) if arm.machine_s is not None and total > 0 else latencies
    read = np.array([answer.prompt_tokens for answer in answers], dtype=np.float64)
    written = np.array([answer.completion_tokens for answer in answers], dtype=np.float64)
    by_token = read * prices.million_prompt_tokens_usd + written * prices.million_completion_tokens_usd
    return busy_s * cost_usd(1.0, prices) + by_token / 1e6


def losses(arm: Arm, items: PairedItems, prices: Prices) -> Floats:
    """US dollars that each question cost its asker, shape (items,): the answer, and the harm if it was wrong."""
    wrong = np.array([not answer.correct for answer in items.of(arm)], dtype=np.float64)
    return answer_costs(arm, items, prices) + wrong * prices.wrong_answer_usd
