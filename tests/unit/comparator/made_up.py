"""Made-up answers for the comparator's tests: arms whose right and wrong answers are laid down item by item."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache

from model_training.contracts.evaluations import ItemResult
from services.comparator.domain.arms import Arm

MODELS = {
    "base": "gemma-3-270m",
    "rag": "rag:library@gemma-3-270m",
    "tuned": "model_01",
    "tuned+rag": "rag:library@model_01",
}


def answer(
    number: int,
    correct: bool,
    *,
    suite: str = "code_generation",
    group: str | None = None,
    score: float | None = None,
    **changes: object,
) -> ItemResult:
    """One graded answer; `changes` replace any other field."""
    fields: dict[str, object] = {
        "item_id": f"{suite}-{number}",
        "suite": suite,
        "form": "write_call",
        "group": group or f"library.function_{number}",
        "question": f"Which call gives the value number {number}?",
        "prompt": f"Question: which call gives the value number {number}?\nAnswer:",
        "output": "list(f(1))" if correct else "f()",
        "reference": f"list(f({number}))",
        "correct": correct,
        "score": float(correct) if score is None else score,
        "scores": {"f1": score, "exact_match": float(correct)} if score is not None else {},
        "status": "passed" if correct else "wrong",
        "reason": "the value is as expected" if correct else "the value is 1, expected 2",
        "latency_s": 0.5 + (number % 10) / 20,
        "prompt_tokens": 100,
        "completion_tokens": 20,
    }
    return ItemResult.model_validate(fields | changes)


def arm(name: str, answers: Sequence[ItemResult], **changes: object) -> Arm:
    """An arm of one of the four usual names with these answers."""
    fields: dict[str, object] = {
        "name": name,
        "model": MODELS.get(name, name),
        "items": {item.item_id: item for item in answers},
        "evaluation": f"eval_{name}",
        "machine_s": 60.0,
    }
    return Arm(**(fields | changes))  # type: ignore[arg-type]


def arm_with(name: str, right: Sequence[bool], *, per_group: int = 1, suite: str = "code_generation") -> Arm:
    """An arm whose answers are right as `right` says; `per_group` neighbours share a function."""
    return arm(
        name,
        [
            _plain(i, bool(value), suite, f"library.function_{i // per_group}")
            for i, value in enumerate(right)
        ],
    )


@lru_cache(maxsize=100_000)
def _plain(number: int, correct: bool, suite: str, group: str) -> ItemResult:
    """The same answer for the same arguments, since simulations make millions of them; nobody changes one."""
    return answer(number, correct, suite=suite, group=group)


def arms_with_rates(rates: Mapping[str, float], n: int, *, seed: int = 0, per_group: int = 1) -> list[Arm]:
    """Arms with about these rates over `n` items of mixed difficulty; an easy item is easy for all."""
    source = random.Random(seed)
    ease = [source.random() for _ in range(n)]
    arms: list[Arm] = []
    for name, rate in rates.items():
        chance = [min(1.0, max(0.0, rate + 0.5 * rate * (1 - rate) * (2 * e - 1))) for e in ease]
        arms.append(arm_with(name, [source.random() < c for c in chance], per_group=per_group))
    return arms
