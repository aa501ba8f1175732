"""How true the load test is: its percentiles beside the server's own account of a stall.

Runs a stand-in server (`load_server`) that stands still once, loads it with an open loop, and compares the p99 of latency
from when requests were due with what the server wrote down. A closed loop beside it shows what is missed without.

    python -m benchmarks.load [--rate 40 --duration 10 --stall 1.5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from services.evaluator.load.client import Target, run_closed, run_open
from services.evaluator.load.report import Limits, Spread, summarise
from services.evaluator.load.schedule import Arrivals, ClosedLoop, OpenLoop


def main() -> None:
    """Read the arguments, measure, print and perhaps write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--duration", type=float, default=10.0)
    parser.add_argument("--stall", type=float, default=1.5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    arrivals: tuple[Arrivals, ...] = ("constant", "poisson")
    report = {
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "stall_s": given.stall,
        "aim": "scheduled p99 within 2% of the truth",
        **{
            f"open, {kind}": open_loop(OpenLoop(given.rate, given.duration, kind), given.stall)
            for kind in arrivals
        },
        "closed": closed_loop(int(given.rate * given.duration), given.stall),
    }
    text = json.dumps(report, indent=2)
    sys.stdout.write(text + "\n")
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")


def open_loop(loop: OpenLoop, stall_s: float) -> dict[str, Any]:
    """The open loop's figures, and the truth."""
    with stand_in("--stall", str(stall_s)) as url:
        due = loop.times()
        done = run_open(Target(f"{url}/v1/chat/completions", "m", ["hello"]), due)
        written = httpx.get(f"{url}/truth").json()
    truth = Spread.of([written[str(n)] - done.started_s - due_s for n, due_s in enumerate(due)])
    report = summarise(done.requests, Limits(e2e_s=0.5))
    assert truth is not None
    assert report.e2e is not None
    assert report.e2e_from_sent is not None
    assert report.pacing is not None
    return {
        "requests": report.requests,
        "errors": report.errors,
        "true_p99_s": round(truth.p99, 4),
        "scheduled_p99_s": round(report.e2e.p99, 4),
        "off_percent": round(100 * (report.e2e.p99 / truth.p99 - 1), 2),
        "from_sent_p99_s": round(report.e2e_from_sent.p99, 4),
        "sent_late_p99_s": round(report.pacing.p99, 4),
        "target_rate": round(report.target_rate, 2),
        "sent_rate": round(report.sent_rate, 2),
        "good_share_within_0.5_s": round(report.good_share, 3),
    }


def closed_loop(requests: int, stall_s: float) -> dict[str, Any]:
    """The same server with two users who wait: few requests meet the stall, so it hardly shows."""
    with stand_in("--stall", str(stall_s)) as url:
        done = run_closed(Target(f"{url}/v1/chat/completions", "m", ["hello"]), ClosedLoop(2, requests))
    report = summarise(done.requests, Limits())
    assert report.e2e is not None
    return {
        "requests": report.requests,
        "p99_s": round(report.e2e.p99, 4),
        "answered_rate": round(report.answered_rate, 1),
    }


@contextmanager
def stand_in(*options: str) -> Generator[str]:
    """A running stand-in server's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.load_server", str(port), *options])
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{url}/truth")
                break
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield url
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
