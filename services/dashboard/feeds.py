"""What pages show, asked for once: one poll of the gateway for each thing, however many browsers look at it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from model_training.client import ApiError, Client
from model_training.errors import UserError
from services.dashboard.gateway import Connection

log = structlog.get_logger(__name__)

T = TypeVar("T")
LINGER_S = 15.0
"""A feed that nobody looks at is kept so long: whoever comes back (a refresh, say) sees something at once."""
AGAIN_S = 2.0
"""Pause after a failure, in seconds."""
OVER = frozenset({401, 403, 404, 410})
"""Answers after which what was known holds no longer: refused from now on, or gone. Other failures leave it standing."""


@dataclass(frozen=True)
class Snapshot(Generic[T]):
    """The newest value, if there was one, and why the newest try failed, if it did."""

    value: T | None = None
    error: UserError | None = None
    known: bool = False
    """Was there ever an answer? It may be None."""


class Feed(Generic[T]):
    """One question to the gateway, asked again and again while somebody listens."""

    def __init__(self, connection: Connection, ask: Callable[[Client], T], every_s: float) -> None:
        self._connection = connection
        self._ask = ask
        self._every_s = every_s
        self._listeners: dict[int, Callable[[Snapshot[T]], None]] = {}
        self._asked = asyncio.Event()
        self._count = 0
        self.latest: Snapshot[T] = Snapshot()
        self.first = asyncio.Event()

    def subscribe(self, listener: Callable[[Snapshot[T]], None]) -> Callable[[], None]:
        """Be told of every change, and of the present value at once. The answer ends that."""
        self._count += 1
        number = self._count
        self._listeners[number] = listener
        if self.first.is_set():
            listener(self.latest)
        return lambda: self._listeners.pop(number, None) and None

    def refresh(self) -> None:
        """Ask now, because something was just changed."""
        self._asked.set()

    async def run(self) -> None:
        """Ask until nobody has listened for a while."""
        idle_s = 0.0
        while idle_s < LINGER_S:
            if self._listeners or not self.first.is_set():
                idle_s = 0.0
                await self._look()
            pause_s = AGAIN_S if self.latest.error is not None else self._every_s
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), pause_s)
            self._asked.clear()
            idle_s = 0.0 if self._listeners else idle_s + pause_s

    async def _look(self) -> None:
        try:
            found = Snapshot(await self._connection.call(self._ask), known=True)
        except UserError as error:
            over = isinstance(error, ApiError) and error.status in OVER
            found = Snapshot(None, error) if over else Snapshot(self.latest.value, error, self.latest.known)
        except Exception as error:  # a feed must outlive an answer that nobody foresaw
            log.error("feed_failed", exc_info=error)
            failure = UserError(f"The answer cannot be read ({type(error).__name__}).")
            found = Snapshot(self.latest.value, failure, self.latest.known)
        told = not self.first.is_set() or found.value != self.latest.value or _differ(found, self.latest)
        self.latest = found
        self.first.set()
        if told:
            for listener in list(self._listeners.values()):
                listener(found)


def _differ(a: Snapshot[Any], b: Snapshot[Any]) -> bool:
    return str(a.error or "") != str(b.error or "")


class Feeds:
    """All feeds, by key and name."""

    def __init__(self) -> None:
        self._feeds: dict[tuple[str, str], Feed[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, connection: Connection, name: str, ask: Callable[[Client], T], every_s: float) -> Feed[T]:
        """The feed of that name, started if there is none. The same name must always mean the same question."""
        key = (connection.id, name)
        if key not in self._feeds:
            feed = self._feeds[key] = Feed(connection, ask, every_s)
            task = asyncio.get_running_loop().create_task(self._run(key, feed), name=f"feed {name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return self._feeds[key]

    @property
    def count(self) -> int:
        """How many are kept."""
        return len(self._feeds)

    def refresh(self, connection: Connection, *names: str) -> None:
        """Ask those again that are being looked at; a name that ends in `*` means all that begin so."""
        for (owner, name), feed in self._feeds.items():
            if owner == connection.id and any(_means(wanted, name) for wanted in names):
                feed.refresh()

    def close(self) -> None:
        """Stop asking."""
        for task in self._tasks:
            task.cancel()

    async def _run(self, key: tuple[str, str], feed: Feed[Any]) -> None:
        try:
            await feed.run()
        finally:
            self._feeds.pop(key, None)


def _means(wanted: str, name: str) -> bool:
    return name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted
