"""One reader of the monitor for all who watch it in this process: everything is looked at once and told to each watcher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import asynccontextmanager

import structlog
from starlette.concurrency import run_in_threadpool

from libs.common.errors import PlatformError
from model_training.contracts.monitoring import Resources

log = structlog.get_logger(__name__)

EVERY_S = 2.0
"""Between two looks while anybody watches. The machine's own figures move no faster, and a look reads the database."""


class View:
    """What some watchers may see of each reading, as text; those with the same `key` see the same."""

    def __init__(self, key: Hashable, shown: Callable[[Resources], Resources]) -> None:
        self.key = key
        self._shown = shown

    def event(self, reading: Resources) -> str:
        """The reading as a server-sent event. Blocks: what is shown may be asked of the database."""
        return f"event: resources\ndata: {self._shown(reading).model_dump_json()}\n\n"


class Readings:
    """The readings of a process. They belong to its event loop."""

    def __init__(self, look: Callable[[], Resources], every_s: float = EVERY_S) -> None:
        """Args:
        look: asks the monitor; raises a `PlatformError` when it does not answer.
        every_s: between two looks.
        """
        self._look = look
        self._every_s = every_s
        self._changed = asyncio.Event()
        self._newest: Resources | None = None
        self._texts: dict[Hashable, asyncio.Task[str]] = {}
        self._watchers = 0
        self._pumping: asyncio.Task[None] | None = None
        self._ending = False

    def end(self) -> None:
        """End every stream, those to come too: the process is to stop."""
        self._ending = True
        self._wake()

    async def stream(self, first: Resources, view: View, heartbeat_s: float) -> AsyncGenerator[str]:
        """A reading now and each one after it, until the watcher leaves; comments while the monitor is away."""
        yield "retry: 2000\n\n" + await run_in_threadpool(view.event, first)
        async with self._joined():
            while not self._ending:
                changed = self._changed
                try:
                    await asyncio.wait_for(changed.wait(), heartbeat_s)
                except TimeoutError:
                    yield ": alive\n\n"
                    continue
                if self._newest is not None and not self._ending:
                    yield await self._text(self._newest, view)

    @asynccontextmanager
    async def _joined(self) -> AsyncGenerator[None]:
        self._watchers += 1
        if self._pumping is None:
            self._pumping = asyncio.create_task(self._pump())
        try:
            yield
        finally:
            self._watchers -= 1
            if self._watchers == 0:
                self._pumping.cancel()
                self._pumping = None

    async def _pump(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                self._newest = await run_in_threadpool(self._look)
            except PlatformError as error:
                log.warning("reading_missed", error=error.detail)  # watchers hear heartbeats meanwhile
                continue
            self._texts = {}
            self._wake()

    async def _text(self, reading: Resources, view: View) -> str:
        """The event for this view, made once for all who share it."""
        if view.key not in self._texts:
            self._texts[view.key] = asyncio.create_task(run_in_threadpool(view.event, reading))
        return await asyncio.shield(self._texts[view.key])  # one who leaves does not end it for the others

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
