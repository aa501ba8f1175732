"""What tests of the runtime share: submit, read, wait, and a worker process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from sqlalchemy import select

from libs.common.db.engine import Database
from libs.common.db.tables import JobEventRow, JobRow
from libs.common.jobs import transitions
from model_training.contracts.jobs import FINAL_STATES, JobKind, JobState
from tests.conftest import ROOT, Stores, free_ports


@contextmanager
def worker(stores: Stores, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process that is ready to take jobs."""
    url = f"http://127.0.0.1:{free_ports(1)}"
    process = start_worker(stores, url, **environment)
    try:
        wait(lambda: httpx.get(f"{url}/readyz").status_code == 200, ignore=httpx.HTTPError)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start_worker(stores: Stores, url: str, **environment: str) -> subprocess.Popen[bytes]:
    """A worker process that is starting."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.jobs.toy_worker", url],
        cwd=ROOT,
        env={**os.environ, **stores.environment, **environment},
    )


def submit(database: Database, *, kind: JobKind = JobKind.TRAIN, **spec: Any) -> str:
    """A new toy job."""
    with database.session() as session:
        return transitions.create(session, kind, "proj_default", {"steps": 5, **spec}, max_attempts=3).id


def read(database: Database, job_id: str) -> JobRow:
    """A job as it is now."""
    with database.session() as session:
        return session.get_one(JobRow, job_id)


def wait_for(database: Database, job_id: str, *states: JobState, timeout_s: float = 120) -> JobRow:
    """The job once it is in one of the states, by default a final one."""
    wanted = {state.value for state in states or FINAL_STATES}
    wait(lambda: read(database, job_id).state in wanted, timeout_s)
    return read(database, job_id)


def events_of(database: Database, job_id: str) -> list[JobEventRow]:
    """A job's history in order."""
    with database.session() as session:
        query = select(JobEventRow).where(JobEventRow.job_id == job_id).order_by(JobEventRow.sequence)
        return list(session.scalars(query))


def wait(
    condition: Callable[[], bool],
    timeout_s: float = 120,
    ignore: type[Exception] | tuple[type[Exception], ...] = (),
) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: it did not hold in time.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except ignore:
            pass
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def assert_no_gap(rows: list[JobEventRow]) -> None:
    """The sequence counts from 1."""
    assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
