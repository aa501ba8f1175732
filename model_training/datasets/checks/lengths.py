"""Token lengths of training rows, and what truncation would cut. Counts what a counter says; tokenizes nothing itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from model_training.datasets.findings import LengthBin, TokenReport

if TYPE_CHECKING:
    from model_training.datasets.rows import TrainingRow

TokenCounter = Callable[[Sequence[str]], Sequence[int]]
"""Tokens of each text. Checks with several workers copy it into other processes, so it must be picklable then."""

EDGES = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


@dataclass
class Lengths:
    """Sums over rows; those of two parts add up."""

    rows: int = 0
    tokens: int = 0
    longest: int = 0
    overlong: int = 0
    cut_tokens: int = 0
    unanswered: int = 0
    bins: Counter[int] = field(default_factory=Counter[int])

    def add(self, other: Lengths) -> None:
        """Take in what another part counted."""
        self.rows += other.rows
        self.tokens += other.tokens
        self.longest = max(self.longest, other.longest)
        self.overlong += other.overlong
        self.cut_tokens += other.cut_tokens
        self.unanswered += other.unanswered
        self.bins.update(other.bins)

    def report(self, max_length: int | None) -> TokenReport:
        """The sums with a histogram that has no empty bins at its ends."""
        used = [index for index in range(len(EDGES) + 1) if self.bins[index]]
        shown = range(used[0], used[-1] + 1) if used else range(0)
        return TokenReport(
            rows=self.rows, tokens=self.tokens, longest=self.longest, max_length=max_length, overlong=self.overlong,
            cut_tokens=self.cut_tokens, unanswered=self.unanswered,
            histogram=[
                LengthBin(up_to=EDGES[index] if index < len(EDGES) else None, rows=self.bins[index]) for index in shown
            ],
        )  # fmt: skip


@dataclass(frozen=True)
class Overlong:
    """A row above the limit: its place among the rows that were measured, and what would be lost."""

    index: int
    message: str


def measure(
    rows: Sequence[TrainingRow], counter: TokenCounter, max_length: int | None, lengths: Lengths
) -> Iterator[Overlong]:
    """Count the tokens of rows into `lengths`; yield those above the limit."""
    questions = counter(["\n".join([*(turn.content for turn in row.context), row.question]) for row in rows])
    answers = counter([row.answer for row in rows])
    for index, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        total = question + answer
        lengths.rows += 1
        lengths.tokens += total
        lengths.longest = max(lengths.longest, total)
        lengths.bins[next((at for at, edge in enumerate(EDGES) if total <= edge), len(EDGES))] += 1
        if max_length is not None and total > max_length:
            lengths.overlong += 1
            lengths.cut_tokens += total - max_length
            lengths.unanswered += question >= max_length
            yield Overlong(index, _cut(total, answer, max_length))


def _cut(total: int, answer: int, max_length: int) -> str:
    cut = total - max_length
    what = (
        f"the whole answer ({answer} tokens), and the row would teach nothing"
        if cut >= answer
        else f"the last {cut} of the answer's {answer} tokens"
    )
    return f"has {total} tokens, the limit is {max_length}: truncation would cut {what}"
