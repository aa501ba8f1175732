"""One reader a job for all who watch it in this process: an event is read from the database and written as text once.

A watcher that comes late reads what it has missed from the database by itself and then joins the feed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import DBAPIError
from starlette.concurrency import run_in_threadpool

from libs.common.db.engine import Database
from libs.common.jobs import transitions
from model_training.contracts.jobs import JobEvent, JobProgress
from services.gateway import repository
from services.gateway.ports import Listener
from services.gateway.service import jobs

log = structlog.get_logger(__name__)

BATCH = 500
KEPT = 500
"""So many of the newest events, and at most twice as many, are held in memory; older ones are read from the database."""
RETRY_S = 1.0


@dataclass(frozen=True)
class Line:
    """One event, ready to be sent."""

    sequence: int
    text: str


@dataclass(frozen=True)
class _News:
    events: list[JobEvent]
    progress: JobProgress
    ended: bool


def as_line(event: JobEvent) -> Line:
    """An event as server-sent events have it; its id is the sequence number."""
    data = event.model_dump_json()
    return Line(event.sequence, f"id: {event.sequence}\nevent: {event.type}\ndata: {data}\n\n")


class Feed:
    """What is new at one job. `changed` is replaced with every change, so that one change wakes every watcher."""

    def __init__(self, start: int) -> None:
        self.changed = asyncio.Event()
        self.last = start
        self.progress: JobProgress | None = None
        self.progress_text = ""
        self.ended = False
        self.watchers = 0
        self._before = start
        self._lines: list[Line] = []

    def after(self, sequence: int) -> Sequence[Line] | None:
        """Lines after a sequence number; None if they are older than what is kept."""
        if sequence < self._before:
            return None
        return self._lines[sequence - self._before :]  # sequences have no gap

    def take(self, news: _News) -> None:
        """Add what was read and wake the watchers."""
        self._lines += [as_line(event) for event in news.events]
        self.last = self._lines[-1].sequence if self._lines else self.last
        if len(self._lines) > 2 * KEPT:
            self._lines = self._lines[-KEPT:]
            self._before = self._lines[0].sequence - 1
        if news.progress != self.progress:
            self.progress = news.progress
            self.progress_text = f"event: progress\ndata: {news.progress.model_dump_json()}\n\n"
        self.ended = news.ended and len(news.events) < BATCH
        self.wake()

    def wake(self) -> None:
        """Have every watcher look."""
        self.changed.set()
        self.changed = asyncio.Event()


class Feeds:
    """The feeds of a process. They belong to its event loop."""

    def __init__(self, database: Database, listener: Listener) -> None:
        self._database = database
        self._listener = listener
        self._feeds: dict[str, Feed] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._joining = asyncio.Lock()
        self._ending = False

    def end(self) -> None:
        """End every stream where it is, those to come too: the process is to stop. Watchers go on elsewhere from there."""
        self._ending = True
        for feed in self._feeds.values():
            feed.wake()

    async def stream(self, job_id: str, sequence: int, heartbeat_s: float) -> AsyncGenerator[str]:
        """Everything after a sequence number as server-sent events: events, progress between them, `end` after the last."""
        sent: JobProgress | None = None
        yield "retry: 2000\n\n"
        async with self._join(job_id) as feed:
            while True:
                changed, ended = feed.changed, feed.ended
                lines = feed.after(sequence)
                late = lines is None
                if lines is None:
                    missed = await run_in_threadpool(self._read, job_id, sequence)
                    lines = [as_line(event) for event in missed.events]
                if lines:
                    sequence = lines[-1].sequence
                    yield "".join(line.text for line in lines)
                if late:
                    continue
                if feed.progress is not None and feed.progress is not sent:
                    sent = feed.progress
                    yield feed.progress_text
                if ended:
                    yield "event: end\ndata: {}\n\n"
                    return
                if self._ending:
                    return
                try:
                    await asyncio.wait_for(changed.wait(), heartbeat_s)
                except TimeoutError:
                    yield ": alive\n\n"

    @asynccontextmanager
    async def _join(self, job_id: str) -> AsyncGenerator[Feed]:
        async with self._joining:
            feed = self._feeds.get(job_id)
            if feed is None:
                feed = self._feeds[job_id] = Feed(await run_in_threadpool(self._last, job_id))
                self._tasks[job_id] = asyncio.create_task(self._pump(job_id, feed))
            feed.watchers += 1
        try:
            yield feed
        finally:
            feed.watchers -= 1
            if feed.watchers == 0:
                del self._feeds[job_id]
                self._tasks.pop(job_id).cancel()

    async def _pump(self, job_id: str, feed: Feed) -> None:
        async with self._listener.watch(job_id) as news:
            while not feed.ended:
                news.clear()
                try:
                    read = await run_in_threadpool(self._read, job_id, feed.last)
                except DBAPIError as error:
                    # PostgreSQL is away. Watchers hear heartbeats and miss nothing: the next read starts where this one did.
                    log.warning("feed_interrupted", job_id=job_id, error=str(error).splitlines()[0])
                    await asyncio.sleep(RETRY_S)
                    continue
                feed.take(read)
                if len(read.events) < BATCH and not feed.ended:
                    await news.wait()

    def _last(self, job_id: str) -> int:
        with self._database.session() as session:
            return repository.job(session, job_id).last_sequence

    def _read(self, job_id: str, sequence: int) -> _News:
        with self._database.session() as session:
            # The state is read before the events: an end that is seen has all its events already.
            row = repository.job(session, job_id)
            ended, progress = transitions.is_final(row), jobs.progress_of(row)
            rows = repository.events_after(session, job_id, sequence, BATCH)
            return _News([jobs.describe_event(event) for event in rows], progress, ended)
