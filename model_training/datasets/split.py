"""Training and validation rows, split the same way every time, with each kind on both sides.

Rows of one function stay on one side, because they tell the answer to each other. A data set that chose its own
validation rows (`split` in the row) is followed instead.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from model_training.datasets.rows import TrainingRow


@dataclass(frozen=True)
class Split:
    """Rows to learn from and rows to choose the best checkpoint by, each in file order."""

    train: list[TrainingRow]
    validation: list[TrainingRow]


def split_rows(rows: Sequence[TrainingRow], fraction: float, seed: int) -> Split:
    """Put about `fraction` of the rows of each kind aside, whole groups at a time, decided by a hash of group and seed.

    A group is taken where that brings the kinds nearer to their shares, all together.
    The split does not depend on the order of the rows and the training side is never empty. Validation is empty only
    if the fraction is 0 (marked rows then train too) or if there is but one group.

    Raises:
        ValueError: if the fraction is not at least 0 and below 1.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction = {fraction}: must be at least 0 and below 1")
    if fraction == 0:
        return Split(list(rows), [])
    marked = {index for index, row in enumerate(rows) if row.split == "validation"}
    return _apart(rows, marked or _draw(rows, fraction, seed))


def _draw(rows: Sequence[TrainingRow], fraction: float, seed: int) -> set[int]:
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(_group(row), []).append(index)
    missing = {kind: fraction * count for kind, count in Counter(row.kind for row in rows).items()}
    chosen: set[int] = set()
    for name in sorted(groups, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest()):
        members = groups[name]
        kinds = Counter(rows[index].kind for index in members)
        nearer = sum(abs(missing[kind]) - abs(missing[kind] - count) for kind, count in kinds.items())
        if nearer > 0 and len(chosen) + len(members) < len(rows):
            chosen.update(members)
            for kind, count in kinds.items():
                missing[kind] -= count
    if not chosen and len(groups) > 1:
        chosen.update(min(groups.items(), key=lambda item: (len(item[1]), item[0]))[1])
    return chosen


def _apart(rows: Sequence[TrainingRow], chosen: set[int]) -> Split:
    train = [row for index, row in enumerate(rows) if index not in chosen]
    validation = [row for index, row in enumerate(rows) if index in chosen]
    return Split(train, validation)


def _group(row: TrainingRow) -> str:
    """The function; for a row without one its question, so that a repeated question stays on one side."""
    return row.group or " ".join(row.question.lower().split())
