"""What `benchmarks.gateway` measures: the platform and what its parts take of the processor, an instant server behind it,
and LiteLLM's proxy beside it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
from aiohttp import web

from libs.common.db.engine import Database
from model_training.embedded import postgres, valkey
from model_training.embedded.platform import Platform
from model_training.embedded.ports import free_port, is_free
from model_training.embedded.units import SERVICES
from model_training.home import Home

MODEL = "gemma-3-270m"
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": MODEL,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "2"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
}
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
    base = next(p for p in range(free_port(), 65_000) if all(is_free(p + offset) for offset in range(8)))
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


@asynccontextmanager
async def server(url: str) -> AsyncGenerator[str]:
    """A server that answers every chat at once, in place of inference: only the way to it is measured."""
    body = json.dumps(ANSWER).encode()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(url.rpartition(":")[2])).start()
    try:
        yield url
    finally:
        await runner.cleanup()


@contextmanager
def litellm_proxy(command: Path | None, upstream: str) -> Generator[str | None]:
    if command is None:
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="litellm-") as name:
        config = Path(name) / "config.yaml"
        parameters = {"model": f"openai/{MODEL}", "api_base": f"{upstream}/v1", "api_key": "none"}
        text = {
            "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
            "general_settings": {"master_key": "sk-benchmark"},
        }
        config.write_text(json.dumps(text), encoding="utf-8")  # JSON is YAML
        environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        with (Path(name) / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(command), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)],
                env=environment,
                stdout=log,
                stderr=log,
            )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


async def reachable(url: str, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    async with aiohttp.ClientSession() as client:
        while True:
            try:
                async with client.get(url) as reply:
                    if reply.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url} did not answer")
            await asyncio.sleep(0.5)
