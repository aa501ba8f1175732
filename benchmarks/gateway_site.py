"""The platform that `benchmarks.gateway` measures, and what each of its parts takes of the processor."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

from libs.common.db.engine import Database
from model_training.embedded import postgres, valkey
from model_training.embedded.platform import Platform
from model_training.embedded.ports import free_port
from model_training.embedded.units import SERVICES
from model_training.home import Home

PARTS = ("gateway", "keeper")
"""Services that run; inference is played by the benchmark itself."""


@dataclass(frozen=True)
class Bench:
    """What runs, and how to reach it. `processes`: the first process of each part."""

    url: str
    key: str
    database: Database
    environment: dict[str, str]
    processes: Mapping[str, psutil.Process]

    @property
    def headers(self) -> dict[str, str]:
        """What a client sends."""
        return {"Authorization": f"Bearer {self.key}"}

    def client(self) -> aiohttp.ClientSession:
        """A client without a limit of connections."""
        return aiohttp.ClientSession(
            base_url=self.url,
            headers=self.headers,
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
        )


@dataclass
class Meter:
    """Seconds of processor time since it was made: of each part with its children, and of the load generator itself."""

    bench: Bench
    before: dict[str, float] = field(init=False)
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.before, self.started = self._now(), time.perf_counter()

    def seconds(self) -> dict[str, float]:
        """What each has taken since."""
        return {name: taken - self.before.get(name, 0.0) for name, taken in self._now().items()}

    def share(self) -> dict[str, float]:
        """What each has taken since, in cores."""
        wall = time.perf_counter() - self.started
        return {name: round(taken / wall, 2) for name, taken in self.seconds().items()}

    def _now(self) -> dict[str, float]:
        parts = {name: _family_s(process) for name, process in self.bench.processes.items()}
        return {**parts, "load_generator": time.process_time()}


def _family_s(first: psutil.Process) -> float:
    total = 0.0
    for process in (first, *first.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


@contextmanager
def running() -> Generator[Bench]:
    """A platform of a gateway, a keeper and the two stores, in a directory of its own."""
    base = free_port()
    services = tuple(spec for spec in SERVICES if spec.name in PARTS)
    with (
        tempfile.TemporaryDirectory(prefix="mt-bench-") as name,
        Platform(name, services=services, model=None, port_base=base).running() as state,
    ):
        home = Home(Path(name))
        found = {service.name: service for service in state.services}
        secrets = home.secrets()
        environment = {
            "MT_HOME": name,
            "MT_DATABASE_URL": postgres.database_url(home),
            "MT_BROKER_URL": valkey.broker_url(found["valkey"].port or 0, secrets.broker_password),
            "MT_INTERNAL_TOKEN": secrets.internal_token,
            "MT_INFERENCE_URL": f"http://127.0.0.1:{base + 1}",
        }
        database = Database(environment["MT_DATABASE_URL"])
        processes = {service: psutil.Process(s.pid) for service, s in found.items() if s.pid is not None}
        yield Bench(f"http://127.0.0.1:{base}", home.api_key(), database, environment, processes)
        database.close()
