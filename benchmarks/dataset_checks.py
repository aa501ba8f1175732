"""A data set of a million rows: how fast it is checked, and in how much memory.

The rows are made up (short coding questions with an answer of a few lines), written to a temporary file, and checked by the
function behind `mt dataset check`, with everything on that needs no tokenizer. Faults are planted in known numbers; the run
fails if the report counts others. Beside us, on the same file in the same run: a plain loop of `json.loads`, which finds
broken JSON only and bounds any check in Python from below, and the MinHash of `datasketch` (where it is installed) against
our near duplicates.

    python -m benchmarks.dataset_checks [--rows 1000000] [--workers 2] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from model_training.datasets.checks.run import CheckOptions, DatasetFiles, check_dataset
from model_training.datasets.findings import Check, CheckReport

NOUNS = [
    "list",
    "tuple",
    "mapping",
    "stream",
    "window",
    "chunk",
    "pair",
    "group",
    "queue",
    "graph",
    "table",
    "column",
    "record",
    "token",
    "file",
    "line",
    "word",
    "path",
    "key",
    "set",
]
VERBS = [
    "split",
    "merge",
    "sort",
    "filter",
    "count",
    "rotate",
    "flatten",
    "compress",
    "expand",
    "map",
    "reduce",
    "scan",
    "pad",
    "trim",
    "zip",
    "drop",
    "take",
    "fold",
    "chain",
]
EVERY = {
    "duplicate": 997,
    "conflict": 1499,
    "empty": 4001,
    "schema": 5003,
    "secret": 9001,
    "near-duplicate": 701,
}
"""One row in so many has the fault."""
PEER_ROWS = 20_000


def main() -> None:
    """Read the arguments, measure, print and perhaps write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, default=None, help="where to write the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mt-bench-") as name:
        path = Path(name) / "rows.jsonl"
        planted = write_rows(path, arguments.rows)
        figures = {
            "benchmark": "dataset_checks",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "rows": arguments.rows,
            "megabytes": round(path.stat().st_size / 1e6),
            "workers": arguments.workers,
            "runs": [
                asdict(
                    measured(
                        "json.loads alone (finds broken JSON only)", arguments.rows, lambda: parse_only(path)
                    )
                ),
                asdict(checked(path, planted, CheckOptions(workers=arguments.workers))),
                asdict(checked(path, planted, CheckOptions(workers=arguments.workers, near_duplicates=True))),
            ],
            "minhash": minhash(path),
        }
    print(json.dumps(figures, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Figures:
    """What one run took. Memory, in MB, is the largest sum over this process and its workers; shared pages count twice."""

    what: str
    seconds: float
    rows_per_s: float
    cpu_seconds: float
    rows_per_cpu_s: float
    peak_rss_mb: float
    counts: dict[str, int] = field(default_factory=dict)


def checked(path: Path, planted: dict[str, int], options: CheckOptions) -> Figures:
    """Our checks, timed, with their counts held against what was planted."""
    reports: list[CheckReport] = []
    what = "mt dataset check" + (" --near-duplicates" if options.near_duplicates else "")
    rows = planted["rows"]
    follow = Bar(what)
    figures = measured(
        what, rows, lambda: reports.append(check_dataset(DatasetFiles(training=[path]), options, follow))
    )
    report = reports[0]
    # A near duplicate has the question of the row before, and another answer.
    expected = planted | {"conflict": planted["conflict"] + planted["near-duplicate"]}
    for check in ("empty", "schema", "secret", "duplicate", "conflict"):
        found = report.counts.get(Check(check), 0)
        if found != expected[check]:
            raise SystemExit(f"{check}: {expected[check]} were planted, {found} found")
    if options.near_duplicates:
        near = report.counts.get(Check.NEAR_DUPLICATE, 0)
        if near < 0.99 * planted["near-duplicate"]:
            raise SystemExit(f"near duplicates: {planted['near-duplicate']} were planted, {near} found")
    return Figures(
        **{**asdict(figures), "counts": {check.value: count for check, count in report.counts.items()}}
    )


def measured(what: str, rows: int, work: Callable[[], object]) -> Figures:
    """Run something; its time, and its memory as a watcher thread sees it."""
    before = cpu_seconds()
    began = time.perf_counter()
    with peak_memory() as peak:
        work()
    seconds = time.perf_counter() - began
    cpu = cpu_seconds() - before
    return Figures(
        what, round(seconds, 2), round(rows / seconds), round(cpu, 2), round(rows / cpu), round(peak[0] / 1e6)
    )


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Watches the resident memory of this process and all below it."""
    peak = [0.0]
    done = threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while True:
            total = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak[0] = max(peak[0], total)
            if done.wait(0.2):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def cpu_seconds() -> float:
    """Processor time of this process and of those below it that have ended."""
    own, below = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime


class Bar:
    """A line for each tenth, so that a log shows that something moves."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._shown = -1

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show a step's progress."""
        tenth = 10 * done // max(total, 1)
        if step == "rows" and tenth != self._shown:
            self._shown = tenth
            print(f"{self._what}: {10 * tenth}%", file=sys.stderr)


def write_rows(path: Path, rows: int) -> dict[str, int]:
    """Write the rows; how many of each fault are in them."""
    rng = random.Random(0)
    planted = dict.fromkeys(EVERY, 0) | {"rows": rows}
    last: dict[str, Any] = make_row(rng, 0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            fault = next((name for name, every in EVERY.items() if number % every == every - 1), None)
            row = (
                make_row(rng, number)
                if fault not in ("duplicate", "conflict", "near-duplicate")
                else dict(last)
            )
            match fault:
                case None:
                    last = row
                case "conflict":
                    row["answer"] = f"It depends on {number}."
                case "near-duplicate":
                    row["answer"] += f" See also item{number}."
                case "empty":
                    row["answer"] = " "
                case "schema":
                    del row["answer"]
                case "secret":
                    row["answer"] += (
                        f"\nAWS_ACCESS_KEY_ID=AKIA{''.join(rng.choices('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567', k=16))}"
                    )
                case _:
                    pass
            if fault:
                planted[fault] += 1
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return planted


def make_row(rng: random.Random, number: int) -> dict[str, Any]:
    """A question about code, and an answer with some. About 500 characters."""
    verb, noun, other = rng.choice(VERBS), rng.choice(NOUNS), rng.choice(NOUNS)
    name = f"{verb}_{noun}_{number}"
    words = " ".join(rng.choice((*VERBS, *NOUNS)) for _ in range(24))
    return {
        "question": f"How do I {verb} a {noun} by its {other} with {name}, given {words}?",
        "answer": f"Call {name} on the {noun}:\n\n```python\ndef {name}(values, size={number % 17}):\n"
        f"    return [value for value in values if len(value) > size and value != '{other}']\n```\n"
        f"It keeps the {noun} as it is; {' '.join(rng.choice((*VERBS, *NOUNS)) for _ in range(12))}.",
        "kind": "code" if number % 2 else "qa",
        "function": name,
    }


def parse_only(path: Path) -> int:
    """The lower bound: decode every line."""
    count = 0
    with path.open(encoding="utf-8") as file:
        for line in file:
            json.loads(line)
            count += 1
    return count


def minhash(path: Path) -> list[dict[str, Any]]:
    """Signatures and their index for some rows: rensa as we use it, and datasketch."""
    from model_training.datasets.checks.near_duplicates import PERMUTATIONS, NearDuplicates, shingles, sign

    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in (file.readline() for _ in range(PEER_ROWS)) if line]
    texts = [f"{row['question']}\n{row['answer']}" for row in rows if row.get("answer")]

    def ours() -> int:
        store = NearDuplicates()
        for start in range(0, len(texts), 1000):
            part = texts[start : start + 1000]
            store.add(sign(list(range(start, start + len(part))), part))
        return sum(1 for _ in store.pairs())

    results = [_timed(f"rensa {version('rensa')}, as used here", len(texts), ours)]
    try:
        peer_version = version("datasketch")
    except PackageNotFoundError:
        return [*results, {"what": "datasketch", "missing": "pip install datasketch"}]
    from datasketch import MinHash, MinHashLSH

    def theirs() -> int:
        index = MinHashLSH(threshold=0.85, num_perm=PERMUTATIONS)
        found = 0
        for number, text in enumerate(texts):
            signature = MinHash(num_perm=PERMUTATIONS)
            signature.update_batch([shingle.encode() for shingle in shingles(text)])
            found += bool(index.query(signature))
            index.insert(str(number), signature)
        return found

    return [*results, _timed(f"datasketch {peer_version}, MinHash and MinHashLSH", len(texts), theirs)]


def _timed(what: str, rows: int, work: Callable[[], int]) -> dict[str, Any]:
    before, began = cpu_seconds(), time.perf_counter()
    found = work()
    return {
        "what": what,
        "rows": rows,
        "pairs": found,
        "rows_per_s": round(rows / (time.perf_counter() - began)),
        "rows_per_cpu_s": round(rows / (cpu_seconds() - before)),
    }


def processor() -> str:
    """The processor's own name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def machine() -> dict[str, Any]:
    """What it ran on, and how busy that was with other work."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "load_at_start": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
