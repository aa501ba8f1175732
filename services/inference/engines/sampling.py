"""Picks the next token of each row: the best one, or one drawn with temperature and nucleus (top-p)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from services.inference.domain.generation import TokenScore


@dataclass(frozen=True)
class Sampler:
    """How one request picks. Its own generator makes it independent of its neighbours in the batch."""

    temperature: float
    top_p: float
    generator: torch.Generator | None

    @classmethod
    def of(cls, temperature: float, top_p: float, seed: int | None) -> Sampler:
        """A sampler; temperature 0 is greedy. Without a seed the draw differs each time."""
        if temperature == 0:
            return cls(0.0, 1.0, None)
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed % 2**63)
        return cls(temperature, top_p, generator)


def next_tokens(logits: torch.Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """One token for each row of `logits` ([row, vocabulary])."""
    if all(sampler.generator is None for sampler in samplers):
        return logits.argmax(-1).tolist()
    return [_draw(row, sampler) for row, sampler in zip(logits, samplers, strict=True)]


def _draw(logits: torch.Tensor, sampler: Sampler) -> int:
    if sampler.generator is None:
        return int(logits.argmax())
    probabilities = torch.softmax(logits.float() / sampler.temperature, dim=-1)
    if sampler.top_p >= 1:
        return int(torch.multinomial(probabilities, 1, generator=sampler.generator))
    kept, order = nucleus(probabilities, sampler.top_p)
    return int(order[torch.multinomial(kept, 1, generator=sampler.generator)])


def nucleus(
    probabilities: torch.Tensor, top_p: float, first: int = 1024
) -> tuple[torch.Tensor, torch.Tensor]:
    """The fewest most probable tokens that together reach `top_p`, as (probabilities, ids).

    The best `first` nearly always reach it, and finding them is much cheaper than sorting 262,144.
    """
    kept, order = torch.topk(probabilities, min(first, len(probabilities)))
    if float(kept.sum()) < top_p and len(kept) < len(probabilities):
        kept, order = torch.sort(probabilities, descending=True)
    before = torch.cumsum(kept, 0) - kept
    inside = before < top_p
    return kept[inside], order[inside]


def token_score(logits: torch.Tensor, token: int, top: int) -> TokenScore:
    """The log-probability of a token under its logits ([vocabulary]) before temperature, and of the `top` likeliest."""
    scores = torch.log_softmax(logits.float(), dim=-1)
    best, order = torch.topk(scores, top) if top else (scores[:0], scores[:0].long())
    pairs = zip(order.tolist(), best.tolist(), strict=True)
    return TokenScore(token, float(scores[token]), tuple(pairs))
