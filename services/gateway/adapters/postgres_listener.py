"""Hears NOTIFY from PostgreSQL and wakes this process's streams. It carries ids only; streams read the rows themselves."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import psycopg
import structlog

from libs.common.jobs.events import CHANNEL
from services.gateway.domain import CHANGES

log = structlog.get_logger(__name__)


class JobListener:
    """One connection that listens for a whole process, on a thread of its own."""

    def __init__(self, database_url: str) -> None:
        self._dsn = database_url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_change: list[Callable[[], None]] = []

    def on_change(self, forget: Callable[[], None]) -> None:
        """Have this called, on the listener's thread, whenever what processes remember may be out of date."""
        self._on_change.append(forget)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start listening and wake waiters on this loop."""
        self._loop = loop
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join(timeout=5)

    @asynccontextmanager
    async def watch(self, job_id: str) -> AsyncGenerator[asyncio.Event]:
        """An event that is set whenever the job has something new. Clear it before reading."""
        event = asyncio.Event()
        self._waiting[job_id].add(event)
        try:
            yield event
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as connection:
                    connection.execute(f"listen {CHANNEL}")
                    connection.execute(f"listen {CHANGES}")
                    self._forget()  # something may have happened while nobody listened
                    self._in_loop(self._wake_all)
                    self._listen(connection)
            except psycopg.Error as error:
                log.warning("listener_interrupted", error=str(error).splitlines()[0] if str(error) else "")
                self._stop.wait(1.0)

    def _listen(self, connection: psycopg.Connection) -> None:
        while not self._stop.is_set():
            for notice in connection.notifies(timeout=1.0):
                if notice.channel == CHANGES:
                    self._forget()
                else:
                    self._in_loop(lambda job_id=notice.payload: self._wake(job_id))

    def _forget(self) -> None:
        for forget in self._on_change:
            forget()

    def _in_loop(self, function: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop has ended: the process is stopping
            self._stop.set()

    def _wake_all(self) -> None:
        for job_id in list(self._waiting):
            self._wake(job_id)

    def _wake(self, job_id: str) -> None:
        for event in self._waiting.get(job_id, ()):
            event.set()
