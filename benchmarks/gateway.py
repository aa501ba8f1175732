"""The gateway under load: submissions, watchers, the way from queue to worker, and what passing a chat on costs.

A gateway, its keeper, PostgreSQL and Valkey are started for the run. The load comes from this process, on the same cores, so
the figures are those of a whole machine; what every part and the load generator take of it is printed beside them.
LiteLLM's proxy, the peer for passing chats on, is measured in the same run in front of the same server when its command is
given; it lives in an environment of its own (`pip install 'litellm[proxy]'`).

    python -m benchmarks.gateway [--litellm PATH/bin/litellm] [--json benchmarks/results/gateway.json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from sqlalchemy import select

from benchmarks.gateway_site import MODEL, Bench, Meter, litellm_proxy, reachable, running, server
from libs.common.db.tables import JobRow, OutboxRow
from libs.common.jobs import events, transitions
from model_training.contracts.jobs import JobKind
from model_training.embedded.ports import free_port

ROOT = Path(__file__).parent.parent
PARTS_OF_IT = ("submissions", "watchers", "queue_to_start", "chat")
ARRIVALS_PER_S = (75, 150, 225, 300)
"""Submissions a second that come at random times, whether or not earlier ones are answered."""

ARRIVING_S = 15.0
ROW = {"messages": [{"role": "user", "content": "What is 1 + 1?"}, {"role": "assistant", "content": "2"}]}
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "What is 1 + 1?"}], "max_tokens": 8}


def main() -> None:
    """Read the arguments, measure, print and perhaps write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--submissions", type=int, default=3000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--watchers", type=int, default=500)
    parser.add_argument("--starts", type=int, default=40)
    parser.add_argument("--chats", type=int, default=600)
    parser.add_argument(
        "--litellm", type=Path, default=None, help="LiteLLM's command, to measure it beside us"
    )
    parser.add_argument(
        "--only", nargs="*", choices=PARTS_OF_IT, default=PARTS_OF_IT, help="measure these only"
    )
    parser.add_argument("--json", type=Path, default=None, help="where to write the figures")
    arguments = parser.parse_args()
    with running() as bench:
        figures = asyncio.run(measure(bench, arguments))
    print(json.dumps(figures, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


async def measure(bench: Bench, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every part, one after the other."""
    figures: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f} at the start",
        "versions": {
            name: version(name) for name in ("fastapi", "uvicorn", "sqlalchemy", "psycopg", "celery")
        },
    }
    parts = {
        "submissions": lambda: submissions(bench, arguments.submissions, arguments.clients),
        "watchers": lambda: watchers(bench, arguments.watchers),
        "queue_to_start": lambda: queue_to_start(bench, arguments.starts),
        "chat": lambda: chat(bench, arguments.chats, arguments.litellm),
    }
    for name, part in parts.items():
        if name in arguments.only:
            figures[name] = await part()
    return figures


async def submissions(bench: Bench, count: int, clients: int) -> dict[str, Any]:
    """Fine-tuning jobs a second from many clients at once, each waiting for its answer."""
    async with bench.client() as client:
        file = await _upload(client)
        body = {"model": MODEL, "training_file": file}
        await _gather(clients, clients, lambda: _post(client, "/v1/fine_tuning/jobs", body))
        started = time.perf_counter()
        meter = Meter(bench)
        seconds = await _gather(count, clients, lambda: _post(client, "/v1/fine_tuning/jobs", body))
        wall = time.perf_counter() - started
        taken, cores = meter.seconds(), meter.share()
        arriving = {
            f"at_{rate}_per_s": await _arriving(rate, lambda: _post(client, "/v1/fine_tuning/jobs", body))
            for rate in ARRIVALS_PER_S
        }
    platform_s = sum(seconds for name, seconds in taken.items() if name != "load_generator")
    figures = {
        "clients": clients,
        "per_s": round(count / wall, 1),
        **_quantiles(seconds),
        # Clients that wait for their answer before they ask again: their mean time is clients / rate, whatever is served.
        "mean_ms": round(1000 * clients * wall / count, 2),
        "arriving": arriving,
        "cpu_ms_each": {name: round(1000 * seconds / count, 2) for name, seconds in taken.items()},
        "cores_used": cores,
        # What the same processor time would do if clients lived on another machine; a bound, not a measurement.
        "per_s_without_the_generator_at_most": round((os.cpu_count() or 1) * count / platform_s, 1),
    }
    _cancel_all(bench)
    _settle(bench)
    return figures


async def watchers(
    bench: Bench, count: int, events_per_s: float = 4.0, length_s: float = 12.0
) -> dict[str, Any]:
    """Streams on one busy job: from the commit of an event to its arrival at each client."""
    with bench.database.session() as session:
        job_id = transitions.create(session, JobKind.TRAIN, "proj_default", {}).id
        transitions.claim(session, job_id, "benchmark", 3600)
    committed: dict[str, float] = {}
    delays: list[float] = []
    async with bench.client() as client:
        connected = asyncio.Semaphore(0)
        tasks = [
            asyncio.create_task(_watch(client, job_id, committed, delays, connected)) for _ in range(count)
        ]
        for _ in range(count):
            await connected.acquire()
        await asyncio.sleep(1.0)
        meter = Meter(bench)
        for number in range(int(length_s * events_per_s)):
            await asyncio.to_thread(_commit_event, bench, job_id, str(number), committed)
            await asyncio.sleep(1 / events_per_s)
        await asyncio.sleep(1.0)
        taken, cores = meter.seconds(), meter.share()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "watchers": count,
        "events": int(length_s * events_per_s),
        "arrivals": len(delays),
        "missed": count * int(length_s * events_per_s) - len(delays),
        **_quantiles(delays),
        "gateway_cpu_s_per_watcher_minute": round(60 * taken["gateway"] / length_s / count, 4),
        "cores_used": cores,
    }


def _commit_event(bench: Bench, job_id: str, name: str, committed: dict[str, float]) -> None:
    with bench.database.session() as session:
        events.append(session, transitions.locked(session, job_id), f"bench {name}", data={"number": name})
        events.notify(session, job_id)
    committed[name] = time.perf_counter()


async def _watch(
    client: aiohttp.ClientSession,
    job_id: str,
    committed: dict[str, float],
    delays: list[float],
    connected: asyncio.Semaphore,
) -> None:
    headers = {"Accept": "text/event-stream"}
    async with client.get(f"/v1/jobs/{job_id}/events", headers=headers) as reply:
        reply.raise_for_status()
        connected.release()
        async for line in reply.content:
            if line.startswith(b"data:") and b'"bench ' in line:
                now = time.perf_counter()
                number = json.loads(line[5:])["data"]["number"]
                # The commit may be seen before the writer's own thread has noted its time.
                delays.append(max(0.0, now - committed.get(number, now)))


async def queue_to_start(bench: Bench, count: int) -> dict[str, Any]:
    """From the answer's `created_at` to the claim by an idle worker, by PostgreSQL's clock."""
    _drop_doorbells(bench)
    worker = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.noop_worker", f"http://127.0.0.1:{free_port()}"],
        cwd=ROOT,
        env=os.environ | bench.environment,
    )
    try:
        async with bench.client() as client:
            file = await _upload(client)
            body = {"model": MODEL, "training_file": file}
            delays: list[float] = []
            for number in range(count + 1):
                job = await _create(client, body)
                row = await _ended(bench, job)
                assert row.started_at is not None
                if number:  # the first one waits for the worker itself to start
                    delays.append((row.started_at - row.created_at).total_seconds())
    finally:
        worker.terminate()
        worker.wait(30)
    return {"jobs": count, **_quantiles(delays)}


async def _create(client: aiohttp.ClientSession, body: dict[str, Any]) -> str:
    async with client.post("/v1/fine_tuning/jobs", json=body) as reply:
        reply.raise_for_status()
        return (await reply.json())["id"]


async def _ended(bench: Bench, job_id: str, timeout_s: float = 60.0) -> JobRow:
    deadline = time.monotonic() + timeout_s
    while True:
        with bench.database.session() as session:
            row = session.get_one(JobRow, job_id)
            if row.finished_at is not None:
                return row
        if time.monotonic() > deadline:
            raise TimeoutError(f"{job_id} is still {row.state}")
        await asyncio.sleep(0.05)


async def chat(bench: Bench, count: int, litellm: Path | None) -> dict[str, Any]:
    """What a hop costs: the same server asked directly, through the gateway, and through LiteLLM's proxy."""
    async with server(bench.environment["MT_INFERENCE_URL"]) as direct:
        doors: dict[str, tuple[str, dict[str, str]]] = {
            "direct": (direct, {}),
            "gateway": (bench.url, bench.headers),
        }
        with litellm_proxy(litellm, direct) as peer:
            if peer is not None:
                await reachable(f"{peer}/health/liveliness")
                doors["litellm"] = (peer, {"Authorization": "Bearer sk-benchmark"})
            alone = await _interleaved(doors, count, 1)
            crowd = await _interleaved(doors, count, 16)
    return {"one_client": _overheads(alone), "sixteen_clients": _overheads(crowd)}


async def _interleaved(
    doors: dict[str, tuple[str, dict[str, str]]], count: int, clients: int
) -> dict[str, list[float]]:
    """Seconds a request by door, in rounds, so that a slow moment of the machine hits all doors alike."""
    seconds: dict[str, list[float]] = {name: [] for name in doors}
    rounds = 6
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        for turn in range(rounds + 1):
            for name, (url, headers) in doors.items():
                took = await _gather(
                    max(clients, count // rounds),
                    clients,
                    partial(_post, client, f"{url}/v1/chat/completions", CHAT, headers),
                )
                if turn:  # the first round warms up
                    seconds[name] += took
    return seconds


def _overheads(seconds: dict[str, list[float]]) -> dict[str, Any]:
    figures: dict[str, Any] = {name: _quantiles(values) for name, values in seconds.items()}
    direct = figures["direct"]["p50_ms"]
    added = {name: round(figures[name]["p50_ms"] - direct, 2) for name in figures if name != "direct"}
    figures["overhead_p50_ms"] = added
    if "litellm" in added:
        figures["gateway_overhead_of_litellm"] = round(added["gateway"] / added["litellm"], 3)
    return figures


async def _upload(client: aiohttp.ClientSession) -> str:
    form = aiohttp.FormData()
    form.add_field("purpose", "fine-tune")
    form.add_field("file", (json.dumps(ROW) + "\n").encode() * 10, filename="train.jsonl")
    async with client.post("/v1/files", data=form) as reply:
        reply.raise_for_status()
        return (await reply.json())["id"]


async def _post(
    client: aiohttp.ClientSession, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> None:
    async with client.post(path, json=body, headers=headers) as reply:
        text = await reply.read()
        if reply.status != 200:
            raise RuntimeError(f"{path} answered {reply.status}: {text[:300]!r}")


async def _gather(count: int, clients: int, request: Any) -> list[float]:
    """Seconds of `count` requests that `clients` coroutines send, each one after the other."""
    numbers = iter(range(count))
    seconds: list[float] = []

    async def work() -> None:
        for _ in numbers:
            started = time.perf_counter()
            await request()
            seconds.append(time.perf_counter() - started)

    await asyncio.gather(*(work() for _ in range(clients)))
    return seconds


async def _arriving(rate: int, request: Any) -> dict[str, float]:
    """Submissions as a Poisson process; seconds count from the time at which each was due."""
    dice = random.Random(rate)
    due, began = 0.0, time.perf_counter()
    seconds: list[float] = []

    async def one(at: float) -> None:
        await request()
        seconds.append(time.perf_counter() - began - at)

    async with asyncio.TaskGroup() as sent:
        while (due := due + dice.expovariate(rate)) < ARRIVING_S:
            await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
            sent.create_task(one(due))
    return {"answered_per_s": round(len(seconds) / (time.perf_counter() - began), 1), **_quantiles(seconds)}


def _quantiles(seconds: list[float]) -> dict[str, float]:
    p50, p99 = np.quantile(seconds, [0.5, 0.99])
    return {"p50_ms": round(1000 * float(p50), 2), "p99_ms": round(1000 * float(p99), 2)}


def _cancel_all(bench: Bench) -> None:
    with bench.database.session() as session:
        for job in session.scalars(select(JobRow).where(JobRow.finished_at.is_(None)).with_for_update()):
            transitions.request_cancel(session, job)


def _settle(bench: Bench) -> None:
    """Wait until what the submissions left behind is done, so that it is not measured with the next part."""
    while True:
        with bench.database.session() as session:
            if session.scalar(select(OutboxRow.id).limit(1)) is None:
                break
        time.sleep(0.2)
    time.sleep(2.0)


def _drop_doorbells(bench: Bench) -> None:
    """Messages of jobs that are cancelled would keep the worker from being idle."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "celery",
            "-b",
            bench.environment["MT_BROKER_URL"],
            "purge",
            "-f",
            "-Q",
            "train",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main()
