"""Runs examples in two processes apart and keeps the values that agree.

The two differ in what must not matter: hash seed, clock, time zone, terminal width, directory. A value that depends on
one of them (a set's order, an address, the date, a random number) is unstable and dropped. What an example may do
is limited in `apart/sandbox.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model_training.datasets.package.records import Candidate, Package, Progress

APART = Path(__file__).parent / "apart"
BATCH = 40  # examples that share a forked child
HANG_SECONDS = 600.0  # for a whole batch; the sandbox itself gives up on one example after ten


Tell = Callable[[int], None]


@dataclass(frozen=True)
class Surroundings:
    """What a value must not depend on."""

    hash_seed: str
    time_zone: str = "UTC"
    columns: str = "80"
    shift_clock: bool = False


ELSEWHERE = Surroundings("4242", "Asia/Kolkata", "132", shift_clock=True)
PAIRS = ((Surroundings("0"), ELSEWHERE), (replace(ELSEWHERE, hash_seed="7"), Surroundings("99")))


@dataclass(frozen=True)
class Outcome:
    """What became of one expression: its literal value, or why it has none that can be used."""

    value: str | None
    error: str | None = None
    detail: str = ""


def run_candidates(
    candidates: Sequence[Candidate], package: Package, progress: Progress, step: str
) -> list[Outcome]:
    """The outcome of each candidate, in order; the package is imported once beforehand."""
    requests = [
        {
            "id": index,
            "imports": [*one.imports, package.functions[one.function].own_import],
            "expression": one.expression,
        }
        for index, one in enumerate(candidates)
    ]
    modules = sorted({package.functions[one.function].module for one in candidates})
    return run_expressions(requests, modules, progress, step)


def run_expressions(
    requests: list[dict[str, Any]], modules: Sequence[str], progress: Progress, step: str
) -> list[Outcome]:
    """As `run_candidates`, for requests with `id` (their position), `imports`, `setup` and `expression`."""
    if not requests:
        return []
    total = len(requests)

    def tell(done: int) -> None:
        progress(step, done, total)

    tell(0)
    outcomes = _run_pair(requests, modules, PAIRS[0], tell)
    # Two orders of a small set of texts are the same by chance now and then; two more hash seeds make that rare.
    again = [
        one for one, outcome in zip(requests, outcomes, strict=True) if (outcome.value or "").count("'") > 2
    ]
    for one, outcome in zip(again, _run_pair(again, modules, PAIRS[1], None), strict=True):
        if outcome.value != outcomes[one["id"]].value:
            outcomes[one["id"]] = Outcome(None, "unstable")
    tell(total)
    return outcomes


def _run_pair(
    requests: list[dict[str, Any]],
    modules: Sequence[str],
    pair: tuple[Surroundings, Surroundings],
    tell: Tell | None,
) -> list[Outcome]:
    stop = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        try:
            first = pool.submit(_run_all, requests, modules, pair[0], stop, tell)
            second = pool.submit(_run_all, requests, modules, pair[1], stop, None)
            one, two = first.result(), second.result()
        except BaseException:
            stop.set()  # on Ctrl-C the threads finish their batch and no more
            raise
    return [_agree(one[request["id"]], two[request["id"]]) for request in requests]


def _agree(one: dict[str, Any], two: dict[str, Any]) -> Outcome:
    for result in (one, two):
        if result.get("error") in {"timeout", "memory"}:  # which of the two limits is met first, is chance
            return Outcome(None, "endless or too large")
    if "error" in one:
        return Outcome(None, one["error"], one.get("detail", ""))
    if "error" in two or one["value"] != two["value"]:
        return Outcome(None, "unstable", two.get("detail", ""))
    return Outcome(one["value"])


def _run_all(
    requests: list[dict[str, Any]],
    modules: Sequence[str],
    around: Surroundings,
    stop: threading.Event,
    tell: Tell | None,
) -> dict[int, dict[str, Any]]:
    results: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as directory:
        process = _start(directory, modules, around)
        try:
            for start in range(0, len(requests), BATCH):
                if stop.is_set():
                    break
                batch = requests[start : start + BATCH]
                if process.poll() is not None:
                    process = _start(directory, modules, around)
                results.update(_run_batch(process, batch))
                if tell:
                    tell(min(start + BATCH, len(requests)))
        finally:
            process.kill()
            process.communicate()
    return results


def _run_batch(process: subprocess.Popen[str], batch: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Results of a batch; examples that got no answer because the process went away count as crashed."""
    assert process.stdin is not None
    assert process.stdout is not None
    results: dict[int, dict[str, Any]] = {one["id"]: {"error": "crashed"} for one in batch}
    watchdog = threading.Timer(HANG_SECONDS, process.kill)
    watchdog.start()
    try:
        process.stdin.write(json.dumps(batch) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            result = json.loads(line)
            if "done" in result:
                break
            results[result["id"]] = result
        else:
            process.wait()
    except BrokenPipeError:
        process.wait()
    finally:
        watchdog.cancel()
    return results


def _start(directory: str, modules: Sequence[str], around: Surroundings) -> subprocess.Popen[str]:
    process = spawn("sandbox.py", directory, around)
    assert process.stdin is not None
    config = {"sys_path": import_path(), "modules": list(modules), "shift_clock": around.shift_clock}
    process.stdin.write(json.dumps(config) + "\n")
    process.stdin.flush()
    return process


def spawn(script: str, directory: str, around: Surroundings | None = None) -> subprocess.Popen[str]:
    """Start a script of `apart/` in `directory` with an environment of its own. The caller ends it."""
    around = around or PAIRS[0][0]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath), "HOME": directory, "TMPDIR": directory,
        "LANG": "C.UTF-8", "PYTHONUTF8": "1", "NO_COLOR": "1", "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": around.hash_seed, "TZ": around.time_zone,
        "COLUMNS": around.columns,
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-s", "-P", "-B", str(APART / script)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, encoding="utf-8", cwd=directory, env=environment,
        start_new_session=True,  # Ctrl-C is ours to handle; the process ends when its input closes
    )  # fmt: skip


def import_path() -> list[str]:
    """Where Python looks for packages, as absolute paths: the process apart runs in another directory."""
    return [os.path.abspath(entry) for entry in sys.path if entry or Path.cwd()]
