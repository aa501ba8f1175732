"""A platform whose parts may be killed: real processes, and a supervisor that starts again what ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import redis
from sqlalchemy import select, text

from libs.common.db.engine import Database
from libs.common.db.tables import JobRow
from libs.common.jobs.keeper import KEEPER_LOCK
from migrations.upgrade import upgrade
from model_training.embedded import ports, postgres, process, valkey
from model_training.home import Home
from tests.conftest import ROOT

LEASE_S = 1.5
KEY = "mt-" + "c" * 43
WORKERS = ("worker-1", "worker-2")
KEEPERS = ("keeper-1", "keeper-2")
PORTS = 1 + len(WORKERS) + len(KEEPERS)
CHILD = "tests.integration.jobs.toy_child"


@dataclass
class Part:
    """One process that the supervisor keeps alive."""

    name: str
    command: tuple[str, ...]
    url: str = ""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    user: int | None = None
    death_signal: signal.Signals = signal.SIGKILL
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0


class Site:
    """PostgreSQL, Valkey, a gateway of two processes, two keepers and two workers.

    What ends is started again, as `mt up` or Kubernetes would.
    """

    def __init__(self, root: Path, port_base: int) -> None:
        self.home = Home(root)
        self.home.create()
        self.home.logs.mkdir(exist_ok=True)
        secrets = self.home.secrets()
        broker_port = ports.free_port()
        self.broker_url = valkey.broker_url(broker_port, secrets.broker_password)
        self.database_url = postgres.database_url(self.home)
        self.gateway_url = f"http://127.0.0.1:{port_base}"
        self.environment = {
            **os.environ,
            "MT_HOME": str(root),
            "MT_DATABASE_URL": self.database_url,
            "MT_BROKER_URL": self.broker_url,
            "MT_INTERNAL_TOKEN": secrets.internal_token,
            "MT_KEY_PEPPER": secrets.key_pepper,
            "MT_BOOTSTRAP_API_KEY": KEY,
            "MT_GATEWAY_URL": self.gateway_url,
            "MT_GATEWAY_PROCESSES": "2",
            "MT_LEASE_S": str(LEASE_S),
            "MT_JOBS_MAX_ATTEMPTS": "8",
            "MT_RING_AGAIN_S": "2",
        }
        stores = [
            Part(unit.name, unit.command, user=unit.user, death_signal=unit.death_signal)
            for unit in (
                postgres.prepare(self.home),
                valkey.prepare(self.home, broker_port, secrets.broker_password),
            )
        ]
        python = (sys.executable, "-m")
        urls = {name: f"http://127.0.0.1:{port_base + 1 + i}" for i, name in enumerate((*KEEPERS, *WORKERS))}
        keeper = (*python, "services.gateway.keeper")
        services = [
            Part("gateway", (*python, "services.gateway.main"), self.gateway_url),
            *(Part(name, keeper, urls[name], {"MT_KEEPER_URL": urls[name]}) for name in KEEPERS),
            *(
                Part(name, (*python, "tests.integration.jobs.toy_worker", urls[name]), urls[name])
                for name in WORKERS
            ),
        ]
        self.parts = {part.name: part for part in (*stores, *services)}
        self._wanted = [part.name for part in stores]
        self._stop = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self.database = Database(self.database_url)

    def start(self) -> None:
        """Start the stores, migrate, then start the services."""
        self._supervisor.start()
        wait_for(lambda: self.database.ready() is None, "PostgreSQL")
        upgrade(self.database_url)
        self._wanted = list(self.parts)
        self.wait_until_ready()

    def stop(self) -> None:
        """Stop everything, stores last."""
        self._stop.set()
        self._supervisor.join()
        self.database.close()

    def wait_until_ready(self) -> None:
        """Wait until every part answers."""
        for part in self.parts.values():
            if part.url:
                wait_for(lambda url=part.url: _answers(url), part.name)
        wait_for(lambda: bool(self.broker().ping()), "Valkey")

    def broker(self) -> redis.Redis:
        """A client of Valkey."""
        return redis.Redis.from_url(self.broker_url, socket_timeout=2)

    def pid(self, name: str) -> int | None:
        """The process id of a part; None while it is down."""
        process = self.parts[name].process
        return process.pid if process is not None and process.poll() is None else None

    def signal(self, name: str, which: signal.Signals, *, descendants: bool = False) -> bool:
        """Send a part a signal; False if it is down."""
        pid = self.pid(name)
        if pid is None:
            return False
        victims = [pid]
        if descendants:
            victims += [child.pid for child in psutil.Process(pid).children(recursive=True)]
        for victim in victims:
            send(victim, which)
        return True

    def processes_of(self, name: str) -> list[int]:
        """The processes that a part has started."""
        pid = self.pid(name)
        return [child.pid for child in psutil.Process(pid).children()] if pid is not None else []

    def children(self) -> list[int]:
        """Processes that do a job's work here, whoever started them."""
        found: list[int] = []
        for candidate in psutil.process_iter(["cmdline"]):
            try:
                if CHILD in (candidate.info["cmdline"] or ()) and self._is_ours(candidate):
                    found.append(candidate.pid)
            except psutil.Error:
                continue
        return found

    def left_over(self) -> list[str]:
        """Processes with this site's data directory in their environment."""
        found: list[str] = []
        for candidate in psutil.process_iter():
            try:
                if candidate.pid != os.getpid() and self._is_ours(candidate):
                    found.append(" ".join(candidate.cmdline()) or f"pid {candidate.pid}")
            except psutil.Error:
                continue
        return found

    def held_by(self, worker: str) -> tuple[str, int] | None:
        """The job that a worker holds, and its fence."""
        owner = JobRow.lease_owner.endswith(f":{self.pid(worker)}")
        with self.database.session() as session:
            found = session.execute(select(JobRow.id, JobRow.fence).where(owner)).first()
        return None if found is None else (found.id, found.fence)

    def is_held_under_another_fence(self, job_id: str, fence: int) -> bool:
        """Whether somebody else has claimed the job since, and still holds it."""
        with self.database.session() as session:
            job = session.get_one(JobRow, job_id)
            return job.fence > fence and job.lease_owner is not None

    def last_words(self) -> list[str]:
        """The ends of all logs."""
        found: list[str] = []
        for name in self.parts:
            found += [f"--- {name}", process.tail(self.home.log(name), 20)]
        return found

    def drop_keeper(self) -> bool:
        """End the connection whose lock makes a process the keeper; False if there is no keeper now."""
        query = text(
            "select pg_terminate_backend(pid) from pg_locks"
            " where locktype = 'advisory' and objid = :key and objsubid = 1 and granted"
        )
        with self.database.session() as session:
            return bool(session.scalars(query, {"key": KEEPER_LOCK}).all())

    def _is_ours(self, candidate: psutil.Process) -> bool:
        return candidate.environ().get("MT_HOME") == str(self.home.root)

    def _supervise(self) -> None:
        while not self._stop.wait(0.05):
            for name in self._wanted:
                part = self.parts[name]
                if part.process is None or part.process.poll() is not None:
                    self._spawn(part)
        for rank in (("gateway", *KEEPERS, *WORKERS), ("postgres", "valkey")):
            running = [p for name in rank if (p := self.parts[name].process) is not None]
            how = signal.SIGINT if "postgres" in rank else signal.SIGTERM
            process.stop_all([(p, how) for p in running], 15.0)

    def _spawn(self, part: Part) -> None:
        part.process = process.spawn(
            part.command,
            env={**self.environment, **part.env},
            log=self.home.log(part.name),
            cwd=ROOT,
            user=part.user,
            death_signal=part.death_signal,
        )
        part.starts += 1


def send(pid: int, which: signal.Signals) -> None:
    """Send a signal to a process that may have gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, which)


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 40.0) -> None:
    """Wait until a condition holds; errors count as not yet."""
    deadline = time.monotonic() + timeout_s
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except Exception as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout_s:g} s for {what} in vain" + (f": {last}" if last else ""))


def _answers(url: str) -> bool:
    return httpx.get(f"{url}/readyz", timeout=2.0).status_code == 200
