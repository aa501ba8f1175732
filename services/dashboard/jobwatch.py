"""Jobs as they go: one event stream from the gateway for each job, however many browsers watch it.

A thread follows the job with the project's client, which takes up broken streams by itself (the gateway restarted, say), and
keeps what browsers show. Listeners are called in the event loop, once a second at most.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable

import structlog

from model_training.client.resources.jobs import JobUpdate
from model_training.contracts.jobs import FINAL_STATES, Job, JobEvent
from model_training.errors import UserError
from services.dashboard.curves import Curves
from services.dashboard.gateway import Connection

log = structlog.get_logger(__name__)

EVENTS_KEPT = 500
TELL_EVERY_S = 1.0
FORGET_AFTER_S = 60.0
Listener = Callable[["JobWatch"], None]


class JobWatch:
    """What is known of one job. `error` says why it is not followed just now."""

    def __init__(self, connection: Connection, job_id: str) -> None:
        self.job_id = job_id
        self.job: Job | None = None
        self.events: deque[JobEvent] = deque(maxlen=EVENTS_KEPT)
        self.curves = Curves()
        self.error: UserError | None = None
        self.first = asyncio.Event()
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[int, Listener] = {}
        self._count = 0
        self._told = False
        self._thread: threading.Thread | None = None

    @property
    def is_over(self) -> bool:
        """Has the job ended?"""
        return self.job is not None and self.job.state in FINAL_STATES

    @property
    def is_watched(self) -> bool:
        """Does anybody look?"""
        return bool(self._listeners)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Be told when something is new, and now if anything is known. The answer ends that."""
        self._count += 1
        number = self._count
        self._listeners[number] = listener
        if self.first.is_set():
            listener(self)
        self.follow()
        return lambda: self._listeners.pop(number, None) and None

    def follow(self) -> None:
        """Follow the job, if nobody does and it has not ended."""
        if self.is_over or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._run, name=f"watch {self.job_id}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for update in self._connection.client.jobs.follow(self.job_id):
                self._loop.call_soon_threadsafe(self._take, update)
                if not self.is_watched and self.first.is_set():
                    return
        except RuntimeError:  # the loop is closed: the dashboard ends
            return
        except UserError as error:
            self._loop.call_soon_threadsafe(self._fail, error)

    def _take(self, update: JobUpdate) -> None:
        self.job, self.error = update.job, None
        seen = self.events[-1].sequence if self.events else 0
        self.events.extend(event for event in update.events if event.sequence > seen)
        self.curves.add(update.metrics)
        self._tell_soon()

    def _fail(self, error: UserError) -> None:
        self.error = error
        self._tell()
        if self._listeners and self.job is not None:
            self._loop.call_later(5.0, self.follow)

    def _tell_soon(self) -> None:
        if self._told:
            return
        self._told = True
        self._loop.call_later(0.0 if not self.first.is_set() else TELL_EVERY_S, self._tell)

    def _tell(self) -> None:
        self._told = False
        self.first.set()
        for listener in list(self._listeners.values()):
            listener(self)


class JobWatches:
    """All watched jobs, by key and id; those that nobody looks at are forgotten after a while."""

    def __init__(self) -> None:
        self._watches: dict[tuple[str, str], JobWatch] = {}

    def get(self, connection: Connection, job_id: str) -> JobWatch:
        """The watch of a job."""
        key = (connection.id, job_id)
        if key not in self._watches:
            self._watches[key] = JobWatch(connection, job_id)
            self._forget_later(key)
        return self._watches[key]

    def _forget_later(self, key: tuple[str, str]) -> None:
        asyncio.get_running_loop().call_later(FORGET_AFTER_S, self._forget, key)

    def _forget(self, key: tuple[str, str]) -> None:
        if self._watches[key].is_watched:
            self._forget_later(key)
        else:
            del self._watches[key]
