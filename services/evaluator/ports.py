"""What scores an answer beside its suite's own check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from model_training.contracts.evaluations import EvaluationItem
from services.evaluator.domain import Answer, Grade


class ExtraMetric(Protocol):
    """One more score of an answer. It decides nothing. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """As it was asked for."""
        ...

    def score(self, item: EvaluationItem, answer: Answer, grade: Grade) -> Mapping[str, float]:
        """The scores by name; none where there is nothing to score.

        Raises:
            NotAnswered: this answer cannot be scored; others may be.
            JobFailure: none can be.
        """
        ...
