"""Arms and the items that all of them answered. Pure; the answers are fetched elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from libs.common.errors import InvalidInput
from model_training.contracts.evaluations import ItemResult
from model_training.contracts.prices import Prices

RAG_PREFIX = "rag:"
TUNED_PREFIX = "model_"


@dataclass(frozen=True)
class Arm:
    """One way to answer, with its answers by item id. `machine_s` is the evaluation's own time in seconds."""

    name: str
    model: str
    items: Mapping[str, ItemResult] = field(default_factory=dict[str, ItemResult])
    evaluation: str | None = None
    machine_s: float | None = None
    prompt_description: str | None = None
    isolation: str | None = None
    evaluations: Sequence[str] = ()
    """All of them, where the items were asked in blocks."""
    is_bound: bool = False
    """Whether it was given the right passages: shown beside the others, never chosen."""
    prices: Prices | None = None
    """Its own, where they are not the comparison's."""

    @property
    def effort(self) -> int:
        """What it takes to run the arm; see `effort_of`."""
        return effort_of(self.model)

    @property
    def is_tuned(self) -> bool:
        """Whether a tuned model answers."""
        return self.effort >= 2


@dataclass(frozen=True)
class PairedItems:
    """The items that every arm answered, in one order. `left_out` counts items that some arm lacks."""

    arms: Sequence[Arm]
    """By effort, the simplest first; arms of equal effort in the order of the request."""
    ids: Sequence[str]
    left_out: int

    def of(self, arm: Arm) -> list[ItemResult]:
        """The arm's answers, in the common order."""
        return [arm.items[item_id] for item_id in self.ids]

    @property
    def groups(self) -> list[str]:
        """Each item's group (its function), in the common order."""
        return [item.group for item in self.of(self.arms[0])]

    @property
    def suites(self) -> list[str]:
        """The suites' names, each once, in the order of the items."""
        return list(dict.fromkeys(item.suite for item in self.of(self.arms[0])))

    def within(self, suite: str) -> PairedItems:
        """The items of one suite."""
        return self.where(lambda item: item.suite == suite)

    def where(self, wanted: Callable[[ItemResult], bool]) -> PairedItems:
        """The items that are wanted, judged by the first arm's answer; every arm was asked the same."""
        first = self.arms[0].items
        return PairedItems(self.arms, [i for i in self.ids if wanted(first[i])], self.left_out)


def effort_of(model: str) -> int:
    """The rank of an arm by what it takes to run: base 0, retrieval 1, tuned 2, tuned with retrieval 3.

    Retrieval needs an index kept up to date; a tuned model must be trained again for every new version.
    """
    base = model.partition("@")[2] if model.startswith(RAG_PREFIX) else model
    return int(model.startswith(RAG_PREFIX)) + 2 * int(base.startswith(TUNED_PREFIX))


def pair(arms: Sequence[Arm]) -> PairedItems:
    """The items that every arm answered, with the arms by effort.

    Raises:
        InvalidInput: two arms answered different questions under one id, or no item is common to all.
    """
    ordered = sorted(arms, key=lambda arm: arm.effort)
    first = ordered[0]
    everywhere = [i for i in first.items if all(i in arm.items for arm in ordered)]
    for arm in ordered[1:]:
        _check_same_questions(first, arm, everywhere)
    seen = {item_id for arm in ordered for item_id in arm.items}
    if seen and not everywhere:
        raise InvalidInput(
            "The arms have no item in common, so nothing can be compared.",
            param="arms",
            hint="Evaluate every arm on the same suites with the same files and limits.",
        )
    return PairedItems(ordered, everywhere, len(seen) - len(everywhere))


def _check_same_questions(a: Arm, b: Arm, ids: Sequence[str]) -> None:
    for item_id in ids:
        one, other = a.items[item_id], b.items[item_id]
        if (one.question, one.reference, one.suite) != (other.question, other.reference, other.suite):
            raise InvalidInput(
                f"Item {item_id!r} asks one thing in arm {a.name!r} and another in arm {b.name!r}.",
                param="arms",
                hint="The evaluations used different files. Evaluate every arm on the same file.",
            )
