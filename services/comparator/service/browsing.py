"""Browses the items of a finished comparison: a small index of the stored file, filters over it, one item at a time.

The file never changes, so its index is kept for the comparisons that were looked at last. Answers' texts stay on the disk.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from libs.common.errors import InvalidInput, NotFound
from model_training.contracts.comparison_views import Matrix, MatrixCell, MatrixRow, Outcome
from model_training.contracts.comparisons import SideBySide

KEPT = 4
"""Indexes in memory; one of 10,000 items and four arms takes about 15 MB."""
QUESTION_CHARACTERS = 300


class Entry(NamedTuple):
    """One line of the file: where it begins, and what is filtered by."""

    start: int
    item_id: str
    suite: str
    form: str
    question: str
    outcome: Outcome
    cells: Mapping[str, tuple[bool, float, str, float]]


@dataclass(frozen=True)
class Wanted:
    """Which items. None and empty texts ask for nothing; `won` was right where `lost` was wrong."""

    outcome: Outcome | None = None
    suite: str | None = None
    form: str | None = None
    won: str | None = None
    lost: str | None = None
    search: str | None = None


def matrix(path: Path, wanted: Wanted, offset: int, limit: int) -> Matrix:
    """The items that are wanted, `limit` of them from `offset` on.

    Raises:
        InvalidInput: an arm is named that the comparison does not have.
    """
    entries = index_of(path)
    arms = list(entries[0].cells) if entries else []
    for field in ("won", "lost"):
        name = getattr(wanted, field)
        if name and name not in arms:
            raise InvalidInput(
                f"There is no arm {name!r} in this comparison.", param=field, hint=f"{', '.join(arms)} are."
            )
    fits = [(position, entry) for position, entry in enumerate(entries) if _fits(entry, wanted)]
    return Matrix(
        items=len(entries),
        matched=len(fits),
        offset=offset,
        outcomes=Counter(entry.outcome for entry in entries),
        suites=Counter(entry.suite for entry in entries),
        forms=Counter(entry.form for entry in entries),
        rows=[_row(position, entry) for position, entry in fits[offset : offset + limit]],
    )


def item_at(path: Path, position: int) -> SideBySide:
    """One item with every arm's answer.

    Raises:
        NotFound: there are fewer items.
    """
    entries = index_of(path)
    if not 0 <= position < len(entries):
        raise NotFound(
            f"There is no item {position} in this comparison.",
            param="position",
            hint=f"It has {len(entries)} items, counted from 0.",
        )
    with path.open("rb") as lines:
        lines.seek(entries[position].start)
        return SideBySide.model_validate_json(lines.readline())


def index_of(path: Path) -> Sequence[Entry]:
    """The index of a file of items, read once."""
    return _read(str(path))


@lru_cache(maxsize=KEPT)
def _read(path: str) -> Sequence[Entry]:
    return tuple(_entries(Path(path)))


def _entries(path: Path) -> Iterator[Entry]:
    start = 0
    with path.open("rb") as lines:
        for line in lines:
            item: dict[str, Any] = json.loads(line)
            answers: dict[str, dict[str, Any]] = item["answers"]
            yield Entry(
                start,
                item["item_id"],
                item["suite"],
                next((answer["form"] for answer in answers.values()), ""),
                item["question"],
                outcome_of(answers),
                {
                    arm: (answer["correct"], answer["score"], answer["status"], answer["latency_s"])
                    for arm, answer in answers.items()
                },
            )
            start += len(line)


def outcome_of(answers: Mapping[str, Mapping[str, Any]]) -> Outcome:
    """What the arms make of an item."""
    if not answers or any(answer["status"] == "not_graded" for answer in answers.values()):
        return "ungraded"
    right = [bool(answer["correct"]) for answer in answers.values()]
    if all(right):
        return "all_right"
    return "disagree" if any(right) else "all_wrong"


def _fits(entry: Entry, wanted: Wanted) -> bool:
    return (
        wanted.outcome in (None, entry.outcome)
        and wanted.suite in (None, "", entry.suite)
        and wanted.form in (None, "", entry.form)
        and (not wanted.won or _is_right(entry, wanted.won))
        and (not wanted.lost or not _is_right(entry, wanted.lost))
        and _found(entry, wanted.search)
    )


def _is_right(entry: Entry, arm: str) -> bool:
    return arm in entry.cells and entry.cells[arm][0]


def _found(entry: Entry, text: str | None) -> bool:
    if not text:
        return True
    needle = text.casefold()
    return needle in entry.question.casefold() or needle in entry.item_id.casefold()


def _row(position: int, entry: Entry) -> MatrixRow:
    return MatrixRow(
        position=position,
        item_id=entry.item_id,
        suite=entry.suite,
        form=entry.form,
        question=entry.question[:QUESTION_CHARACTERS],
        outcome=entry.outcome,
        cells={
            arm: MatrixCell(correct=correct, score=score, status=status, latency_s=latency_s)
            for arm, (correct, score, status, latency_s) in entry.cells.items()
        },
    )
