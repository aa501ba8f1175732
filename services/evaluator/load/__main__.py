"""A load test as a program: `python -m services.evaluator.load URL --model NAME --rate 5 --duration 60`.

`mt eval load` is the same. Prints JSON: one report a run, and the figures over all runs with their intervals.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from services.evaluator.load.client import Target, run_closed, run_open
from services.evaluator.load.meter import Meter
from services.evaluator.load.report import Limits, LoadReport, over_runs, summarise
from services.evaluator.load.schedule import ClosedLoop, OpenLoop, from_trace

PROMPTS = ["Write a Python function that adds two numbers.", "What does functools.partial do?"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments, run, print."""
    given = _parser().parse_args(arguments)
    prompts = _lines(given.prompts) if given.prompts else PROMPTS
    target = Target(given.url, given.model, prompts, given.max_tokens, os.environ.get(given.key_variable, ""))
    limits = Limits(given.ttft, given.tpot, given.e2e)
    with Meter() as meter:
        reports = [
            _run(given, target, limits, seed) for seed in range(given.seed, given.seed + given.repeats)
        ]
    machine = meter.usage
    answers = sum(report.requests - sum(report.errors.values()) for report in reports)
    report = {
        "target": {"url": given.url, "model": given.model, "max_tokens": given.max_tokens},
        "limits_s": asdict(limits),
        "over_runs": _over(reports),
        "runs": [asdict(one) for one in reports],
        "this_machine": {
            "is_the_servers": _is_here(given.url),
            "cpu_percent": machine.cpu_percent,
            "client_cpu_percent": machine.client_cpu_percent,
            "memory_used_percent": machine.memory_used_percent,
            "gpu_percent": machine.gpu_percent,
            "gpu_memory_used": machine.gpu_memory_used,
            "energy": machine.per(answers, sum(report.tokens for report in reports)),
        },
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mt eval load", description="Load on an OpenAI-compatible endpoint."
    )
    parser.add_argument("url", help="…/v1/chat/completions or …/v1/completions")
    parser.add_argument("--model", required=True)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--rate", type=float, default=1.0, help="requests a second, open loop")
    how.add_argument("--users", type=int, help="closed loop with so many users")
    how.add_argument("--trace", type=Path, help="a file with one time in seconds a line")
    parser.add_argument("--arrivals", choices=("poisson", "constant"), default="poisson")
    parser.add_argument("--duration", type=float, default=60.0, help="seconds, open loop")
    parser.add_argument("--requests", type=int, default=100, help="requests, closed loop")
    parser.add_argument("--ramp", type=float, default=0.0, help="seconds until the full rate")
    parser.add_argument("--warm-up", type=float, default=0.0, help="seconds that are not counted")
    parser.add_argument("--repeats", type=int, default=1, help="runs, each with another seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--prompts", type=Path, help="a file with one prompt a line")
    parser.add_argument(
        "--key-variable", default="MT_API_KEY", help="environment variable that holds the key"
    )
    for name, what in (("ttft", "to the first token"), ("tpot", "for each further token"), ("e2e", "in all")):
        parser.add_argument(
            f"--{name}", type=float, help=f"a good answer takes at most so many seconds {what}"
        )
    return parser


def _run(given: argparse.Namespace, target: Target, limits: Limits, seed: int) -> LoadReport:
    if given.users:
        done = run_closed(target, ClosedLoop(given.users, given.requests))
    elif given.trace:
        done = run_open(target, from_trace([float(line) for line in _lines(given.trace)]))
    else:
        done = run_open(
            target, OpenLoop(given.rate, given.duration, given.arrivals, given.ramp, seed).times()
        )
    return summarise(done.requests, limits, warm_up_s=given.warm_up)


def _is_here(url: str) -> bool:
    """Whether the server's name is one of this machine, so that what this machine takes is the server's."""
    return urlsplit(url).hostname in {"localhost", "127.0.0.1", "::1", socket.gethostname()}


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _over(reports: Sequence[LoadReport]) -> dict[str, Any]:
    figures: dict[str, list[float]] = {}
    for report in reports:
        for name in ("good_share", "goodput", "tokens_per_s"):
            figures.setdefault(name, []).append(getattr(report, name))
        for name in ("ttft", "e2e"):
            spread = getattr(report, name)
            if spread is not None:
                for point in ("p50", "p95", "p99"):
                    figures.setdefault(f"{name}_{point}", []).append(getattr(spread, point))
    return {
        name: asdict(over_runs(values)) if len(values) > 1 else {"mean": values[0]}
        for name, values in figures.items()
    }


if __name__ == "__main__":
    main()
