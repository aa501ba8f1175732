"""Which of an evaluation's answers this process is to get: all that are missing, or those of shards that it takes.

Positions number the answers of the whole evaluation, the same in every process that works on it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from libs.common.jobs import sharing

ASK_AGAIN_S = 1.0
"""How often another shard is asked for while there is none."""


@dataclass(frozen=True)
class Tally:
    """How far the whole evaluation is, whoever does it."""

    stored: int
    right: int


class Portions(Protocol):
    """Where the next positions come from."""

    def take(self, most: int) -> Iterator[int]:
        """At most so many positions to ask now; none may be there now and some later."""
        ...

    def answered(self, position: int) -> None:
        """The answer to a position was reported."""
        ...

    def is_over(self) -> bool:
        """Whether nothing more will come."""
        ...

    def tally(self) -> Tally | None:
        """How far the whole is; None where nobody else works on it."""
        ...


class Whole:
    """Everything that is missing, done by this process alone."""

    def __init__(self, positions: Iterable[int]) -> None:
        self._left = list(positions)[::-1]

    def take(self, most: int) -> Iterator[int]:
        """The next ones in order."""
        for _ in range(min(max(most, 0), len(self._left))):
            yield self._left.pop()

    def answered(self, position: int) -> None:
        """Nobody else needs to know."""

    def is_over(self) -> bool:
        """Whether all were taken."""
        return not self._left

    def tally(self) -> Tally | None:
        """Nobody else works on it."""
        return None


class Worker(Protocol):
    """The part of `ChildContext` that shards need."""

    @property
    def news(self) -> dict[str, Any] | None: ...
    def output(self, name: str, data: dict[str, Any]) -> None: ...


class Shared:
    """Shards of the evaluation, one after the other; the next is asked for before the last answers of this one are begun."""

    def __init__(
        self, worker: Worker, *, is_helper: bool, account: Callable[[], dict[str, Any]] = dict
    ) -> None:
        """Args:
        is_helper: a helper is over when it is given nothing more, the job's own process when every shard is done.
        account: what is kept with a shard that this process has ended.
        """
        self._account = account
        self._worker, self._is_helper = worker, is_helper
        self._seen: dict[str, Any] | None = None
        self._ready: deque[int] = deque()
        self._missing: dict[int, set[int]] = {}
        self._shard_of: dict[int, int] = {}
        self._ended: set[int] = set()
        self._questions = 0
        self._ask_again = 0.0

    @staticmethod
    def plan(worker: Worker, count: int, size: int) -> None:
        """Cut `count` positions into shards of `size`; what was cut before stays as it is."""
        specs = [{"start": start, "stop": min(start + size, count)} for start in range(0, count, size)]
        worker.output(sharing.PLAN, {"specs": specs})

    def take(self, most: int) -> Iterator[int]:
        """The next positions of shards that are held, in order."""
        self._look()
        for _ in range(min(most, len(self._ready))):
            yield self._ready.popleft()
        if len(self._ready) < most:
            self._ask()

    def answered(self, position: int) -> None:
        """End the shard that the position is the last of."""
        shard = self._shard_of.pop(position)
        self._missing[shard].discard(position)
        if not self._missing[shard]:
            self._end(shard)

    def is_over(self) -> bool:
        """Whether this process has nothing more to do."""
        self._look()
        if self._missing or self._seen is None:
            return False
        return self._is_refused() if self._is_helper else bool(self._seen["all_done"])

    def tally(self) -> Tally | None:
        """What the worker last counted."""
        return Tally(self._seen["stored"], self._seen["right"]) if self._seen is not None else None

    def _look(self) -> None:
        """Begin with shards that are new. One that somebody else took over meanwhile is done here too, and counts once."""
        news = self._worker.news
        if news is None or news is self._seen:
            return
        self._seen = news
        for shard in news["mine"]:
            if shard["position"] in self._ended:
                self._end(shard["position"])  # it had been taken from us for a moment
            elif shard["position"] not in self._missing:
                self._begin(shard)

    def _begin(self, shard: dict[str, Any]) -> None:
        number, done = shard["position"], set(shard["done"])
        positions = [one for one in range(shard["start"], shard["stop"]) if one not in done]
        self._missing[number] = set(positions)
        self._shard_of |= dict.fromkeys(positions, number)
        self._ready.extend(positions)
        self._ask_again = 0.0
        if not positions:
            self._end(number)

    def _end(self, number: int) -> None:
        self._missing.pop(number, None)
        self._ended.add(number)
        self._worker.output(sharing.DONE, {"position": number, "result": self._account()})

    def _ask(self) -> None:
        """Ask for another shard. Who waits for others asks now and then: one of these may have been lost."""
        if self._seen is None or time.monotonic() < self._ask_again or self._is_refused():
            return
        self._questions += 1
        self._ask_again = time.monotonic() + ASK_AGAIN_S
        held = sorted(self._missing)
        self._worker.output(sharing.WANT, {"held": held, "number": self._questions})

    def _is_refused(self) -> bool:
        """Whether the newest news knows the last question, and there is nothing new in it."""
        if not self._is_helper or self._seen is None or self._questions == 0:
            return False
        return self._seen["heard"] == self._questions and not self._missing
