"""A worker process: hears the doorbell and runs jobs of one kind, or takes a single job and exits."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

import structlog
from celery.worker import state as celery_state
from fastapi import FastAPI

from libs.common import tracing
from libs.common.db.engine import Database
from libs.common.jobs.helping import SharedHandler, SharingRunner
from libs.common.jobs.queue import TASK, make_celery
from libs.common.jobs.runner import JobHandler, JobRunner
from libs.common.service import BackgroundServer
from libs.common.settings import PlatformSettings

log = structlog.get_logger(__name__)


def run_worker(
    handler: JobHandler, app: FastAPI, settings: PlatformSettings, database: Database, *, url: str
) -> None:
    """Serve the application on a thread and take jobs in this one, until SIGTERM.

    With `claim_one` set it takes one job, or none if none waits, and returns: no port is opened and no doorbell heard. What
    starts such workers should count queued jobs in PostgreSQL, because nobody takes the messages from the broker.

    Args:
        app: the service's HTTP application (`libs.common.service.create_app`).
        url: where it listens.
    """
    database.end_idle_transactions(settings.lease_s)
    tracing.begin(app.title)
    try:
        if settings.claim_one:
            _run_one(handler, settings, database)
        else:
            _run_many(handler, app, settings, database, url)
    finally:
        database.close()
        tracing.flush()


def _run_one(handler: JobHandler, settings: PlatformSettings, database: Database) -> None:
    leaving = threading.Event()

    def leave(signum: int, frame: FrameType | None) -> None:
        leaving.set()

    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, leave)
    _runner(handler, database, settings, leaving.is_set).run_one()


def _run_many(
    handler: JobHandler, app: FastAPI, settings: PlatformSettings, database: Database, url: str
) -> None:
    http = BackgroundServer(app, url)
    http.start()
    celery = make_celery(settings.broker_url)
    celery.task(name=TASK)(_runner(handler, database, settings, _told_to_stop).run)
    worker = celery.Worker(
        pool="solo",
        queues=[handler.kind.value],
        hostname=f"{handler.kind.value}@{socket.gethostname()}-{os.getpid()}",
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    try:
        worker.start()
    finally:
        http.stop()


def _runner(
    handler: JobHandler, database: Database, settings: PlatformSettings, leaving: Callable[[], bool]
) -> JobRunner:
    kind = SharingRunner if isinstance(handler, SharedHandler) else JobRunner
    return kind(handler, database, settings, leaving)  # pyright: ignore[reportArgumentType] (it was just asked)


def _told_to_stop() -> bool:
    return any(
        wish is not None and wish is not False
        for wish in (celery_state.should_stop, celery_state.should_terminate)
    )
