"""How likely a model finds the reference answer: its perplexity after the prompt that the model was given.

Each item keeps the reference's negative log-likelihood in nats and its tokens; perplexity over items is exp of the mean
over all tokens, so that a long reference counts for more than a short one. Figures of two models compare only where both
read with the same tokenizer; `reference_nats_per_char` does not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from model_training.contracts.evaluations import EvaluationItem
from services.evaluator.domain import Answer, Grade, NotAnswered

NATS, TOKENS, CHARS = "reference_nats", "reference_tokens", "reference_chars"
KEPT = frozenset({NATS, TOKENS, CHARS})
"""What an item keeps; a suite's summary has what follows from their sums."""

Measure = Callable[[str], list[float]]
"""Log-probabilities in nats of every token of a text after the first."""


class ReferencePerplexity:
    """Measures each item's reference behind the prompt of its answer."""

    name = "reference_perplexity"

    def __init__(self, measure: Measure) -> None:
        self._measure = measure

    def score(self, item: EvaluationItem, answer: Answer, grade: Grade) -> Mapping[str, float]:
        """The reference's nats, tokens and characters.

        Behind a prompt that ends in a word ("Answer:") the reference begins with a space, as an answer would. Tokens are
        counted from the prompt's own; where the prompt's last and the reference's first characters make one token, that
        one is the prompt's.
        """
        is_joined = not answer.prompt[-1:].isspace() and not item.answer[:1].isspace()
        logprobs = self._measure(f"{answer.prompt}{' ' if is_joined else ''}{item.answer}")
        told = logprobs[answer.prompt_tokens - 1 :]
        if answer.prompt_tokens < 1 or not told:
            raise NotAnswered("the reference has no token of its own behind the prompt")
        return {NATS: -sum(told), TOKENS: float(len(told)), CHARS: float(len(item.answer))}


def over_items(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """`reference_perplexity` and `reference_nats_per_char` of the items that were measured; nothing where none was."""
    kept = [row["scores"] for row in rows if NATS in row["scores"]]
    if not kept:
        return {}
    nats, tokens, chars = (sum(scores[name] for scores in kept) for name in (NATS, TOKENS, CHARS))
    return {
        ReferencePerplexity.name: math.exp(nats / tokens),
        "reference_nats_per_char": nats / max(chars, 1.0),
        "reference_items": float(len(kept)),
    }
