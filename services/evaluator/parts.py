"""Cuts a suite's items into parts that are asked at different times, or by different workers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from model_training.contracts.evaluations import EvaluationItem, Part


def items_of_part(items: Sequence[EvaluationItem], part: Part, seed: int) -> list[EvaluationItem]:
    """The items of one part, in their own order; the parts are about equally large and hold every item once.

    Whole groups are dealt out in an order that the seed shuffles: what is known of a part's items says nothing about another
    part's, and every part looks like the whole. A part may be empty where there are fewer groups than parts.
    """
    sizes = Counter(item.group for item in items)
    order = sorted(sizes, key=lambda group: hashlib.sha256(f"{seed}\0{group}".encode()).digest())
    part_of: dict[str, int] = {}
    before = 0
    for group in order:
        middle = before + sizes[group] / 2
        part_of[group] = int(middle * part.of / len(items)) + 1
        before += sizes[group]
    return [item for item in items if part_of[item.group] == part.number]
