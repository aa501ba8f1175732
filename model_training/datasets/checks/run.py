"""Checks a whole data set in one pass and bounded memory: training, validation and evaluation files, and passages.

Batches of rows are checked in worker processes; what they leave is brought together here, in order. Memory holds the
held-out texts, a few batches, and the findings that are kept; hashes of all rows lie in temporary files.
"""

from __future__ import annotations

import heapq
import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from model_training.contracts.evaluations import EvaluationItem
from model_training.datasets.checks.batch import KEPT, BatchChecker, Near, Part, Settings, Task, held_out_rows
from model_training.datasets.checks.ledger import Ledger, Pair, place_of
from model_training.datasets.checks.lengths import Lengths, TokenCounter
from model_training.datasets.checks.near_duplicates import NearDuplicates, require_packages
from model_training.datasets.findings import Check, CheckReport, FileSummary, Finding, Role
from model_training.datasets.formats.read import FileFormat, read_batches, read_records, recognise
from model_training.datasets.formats.record import Record, RowError
from model_training.datasets.leaks import HeldOut, held_out_item
from model_training.datasets.rows import value_of
from model_training.datasets.sources import data_files

MAX_HELD_OUT = 50_000
"""Validation rows, and evaluation items, that leaks are looked for at most; more would fill the memory."""
WAITING = 3
"""Batches for each worker that are under way."""

NO_ROWS = "the file holds no rows; it needs one JSON object a line, a JSON list, or a table"

Progress = Callable[[str, int, int], None]
"""Called with a step, how much of it is done, and its size (bytes of files, or 0 and 1)."""


@dataclass(frozen=True)
class DatasetFiles:
    """Files or folders by what they are for."""

    training: Sequence[Path] = ()
    validation: Sequence[Path] = ()
    evaluation: Sequence[Path] = ()
    chunks: Sequence[Path] = ()


@dataclass(frozen=True)
class CheckOptions:
    """What is checked beyond the rows themselves, and with how many processes. One worker means this process alone.

    With a `counter`, token lengths are reported, and rows above `max_length` are findings.
    """

    content: bool = True
    near_duplicates: bool = False
    counter: TokenCounter | None = None
    max_length: int | None = None
    workers: int = 1


@dataclass
class _File:
    number: int
    path: Path
    name: str
    role: Role
    format: FileFormat
    bytes: int
    rows: int = 0
    faulty: int = 0
    shapes: Counter[str] = field(default_factory=Counter[str])


def check_dataset(
    files: DatasetFiles, options: CheckOptions | None = None, progress: Progress | None = None
) -> CheckReport:
    """Everything that can be found.

    Raises:
        UserError: a file is missing or cannot be read, a folder has no data files, or a package that is asked for is not
            installed.
    """
    options = options or CheckOptions()
    if options.near_duplicates:
        require_packages()
    began = time.monotonic()
    listed = _list(files)
    with closing(_Run(listed, options)) as run:
        run.stream(progress or _silent)
        run.compare(progress or _silent)
        return run.report(time.monotonic() - began)


def total_bytes(files: DatasetFiles) -> int:
    """The size of all files.

    Raises:
        UserError: a file is missing or cannot be read, or a folder has no data files.
    """
    return sum(file.bytes for file in _list(files))


class _Run:
    """One check: what is known so far."""

    def __init__(self, files: list[_File], options: CheckOptions) -> None:
        self._files = files
        self._options = options
        self._notes: list[str] = []
        self._settings = Settings(
            content=options.content,
            near_duplicates=options.near_duplicates,
            counter=options.counter,
            max_length=options.max_length,
            validation=self._held_out("validation", _validation_rows),
            evaluation=self._held_out("evaluation", _evaluation_items),
        )
        self._sum = Part()
        self._lengths = Lengths()
        self._kept: dict[Check, list[Finding]] = {}
        self._nearest: dict[tuple[Role, int], tuple[float, int, int]] = {}
        self._ledger = Ledger()
        self._near = NearDuplicates()

    def close(self) -> None:
        """Remove the temporary files."""
        self._ledger.close()
        self._near.close()

    def stream(self, progress: Progress) -> None:
        """Read all files once."""
        total = sum(file.bytes for file in self._files)
        with _mapper(self._settings, self._options.workers) as check_all:
            before = 0
            for file in self._files:
                if _is_readable(file):
                    for position, part in check_all(_tasks(file)):
                        self._take(file, part)
                        progress("rows", before + min(position, file.bytes), total)
                    if not file.rows:
                        self._find(Check.FILE, file, 0, NO_ROWS)
                else:
                    self._find(Check.FILE, file, 0, f"is {file.format}; {file.role} files must be JSONL")
                before += file.bytes
        progress("rows", total, total)

    def compare(self, progress: Progress) -> None:
        """Look for what concerns several rows."""
        progress("comparing", 0, 1)
        self._pairs(Check.ID, self._ledger.repeated_ids(), "{identity!r} is also the id of row {first}")
        if self._options.content:
            self._pairs(Check.DUPLICATE, self._ledger.duplicates(), "is the same as row {first}")
            self._pairs(
                Check.CONFLICT,
                self._ledger.conflicts(),
                "asks the question of row {first} and answers otherwise",
            )
        else:
            self._sum.counts[Check.DUPLICATE] = sum(1 for _ in self._ledger.duplicates())
        alike = (
            pair for pair in self._near.pairs() if not self._ledger.same_content(Pair(pair.key, pair.first))
        )
        for pair in alike:
            file, row = place_of(pair.key)
            message = f"is {pair.similarity:.0%} the same as row {self._place(pair.first, file)}"
            self._find(Check.NEAR_DUPLICATE, self._files[file], row, message)
        self._report_near_leaks()
        progress("comparing", 1, 1)

    def report(self, seconds: float) -> CheckReport:
        """What was found."""
        counts = {check: count for check in Check if (count := self._sum.counts[check])}
        return CheckReport(
            files=[
                FileSummary(
                    path=file.name, role=file.role, format=file.format.value, bytes=file.bytes, rows=file.rows,
                    shapes=dict(sorted(file.shapes.items())), faulty=file.faulty,
                )
                for file in self._files
            ],
            rows=sum(file.rows for file in self._files),
            kinds=dict(sorted(self._sum.kinds.items())),
            characters=self._sum.characters,
            tokens=self._lengths.report(self._options.max_length) if self._options.counter else None,
            counts=counts,
            findings=[finding for check in Check for finding in self._kept.get(check, [])],
            notes=self._notes,
            seconds=round(seconds, 3),
        )  # fmt: skip

    def _take(self, file: _File, part: Part) -> None:
        file.rows += part.rows
        file.faulty += part.faulty
        file.shapes.update(part.shapes)
        self._sum.characters += part.characters
        self._sum.kinds.update(part.kinds)
        self._sum.counts.update(part.counts)
        for finding in part.findings:
            self._keep(finding)
        self._ledger.add(part.entries)
        if part.signatures is not None:
            self._near.add(part.signatures)
        if part.lengths is not None:
            self._lengths.add(part.lengths)
        for near in part.near:
            self._note_near(file, near)

    def _note_near(self, file: _File, near: Near) -> None:
        known = self._nearest.get((near.role, near.held_out))
        if known is None or near.share > known[0]:
            self._nearest[near.role, near.held_out] = (near.share, file.number, near.row)

    def _report_near_leaks(self) -> None:
        for (role, number), (share, file, row) in sorted(self._nearest.items(), key=lambda one: one[1][1:]):
            held_out = self._settings.validation if role == "validation" else self._settings.evaluation
            message = f"holds {share:.0%} of the word sequences of {role} row {held_out[number].identity}"
            self._find(Check.NEAR_LEAK, self._files[file], row, message)

    def _pairs(self, check: Check, pairs: Iterator[Pair], message: str) -> None:
        counted = _Counted(pairs)
        for pair in heapq.nsmallest(KEPT, counted):
            file, row = place_of(pair.key)
            self._keep(
                Finding(
                    check=check, file=self._files[file].name, row=row, field="id" if check is Check.ID else None,
                    message=message.format(first=self._place(pair.first, file), identity=pair.identity),
                )
            )  # fmt: skip
        self._sum.counts[check] += counted.count

    def _place(self, key: int, beside: int) -> str:
        file, row = place_of(key)
        return f"{row}" if file == beside else f"{row} of {self._files[file].name}"

    def _find(self, check: Check, file: _File, row: int, message: str) -> None:
        self._sum.counts[check] += 1
        self._keep(Finding(check=check, file=file.name, row=row, message=message))

    def _keep(self, finding: Finding) -> None:
        kept = self._kept.setdefault(finding.check, [])
        if len(kept) < KEPT:
            kept.append(finding)

    def _held_out(self, role: Role, read: Callable[[_File], Iterator[HeldOut]]) -> tuple[HeldOut, ...]:
        rows = (row for file in self._files if file.role == role for row in read(file))
        if not any(file.role != role for file in self._files):
            return ()
        kept = tuple(islice(rows, MAX_HELD_OUT))
        if next(rows, None) is not None:
            self._notes.append(f"Leaks were looked for of the first {MAX_HELD_OUT:,} {role} rows only.")
        return kept


class _Counted:
    """Passes pairs on and counts them."""

    def __init__(self, pairs: Iterator[Pair]) -> None:
        self._pairs = pairs
        self.count = 0

    def __iter__(self) -> Iterator[Pair]:
        for pair in self._pairs:
            self.count += 1
            yield pair


def _list(files: DatasetFiles) -> list[_File]:
    listed: list[_File] = []
    roles: tuple[Role, ...] = ("training", "validation", "evaluation", "chunks")
    for role in roles:
        paths: Sequence[Path] = getattr(files, role)
        for path in [file for given in paths for file in data_files(given)]:
            listed.append(_File(len(listed), path, path.name, role, recognise(path), path.stat().st_size))
    names = Counter(file.name for file in listed)
    # Two files of one name are told apart by their paths.
    return [replace(file, name=str(file.path)) if names[file.name] > 1 else file for file in listed]


def _tasks(file: _File) -> Iterator[Task]:
    for batch in read_batches(file.path, file.format):
        yield Task(file.number, file.name, file.role, batch)


def _is_readable(file: _File) -> bool:
    """Whether the platform reads the format: training rows in any, passages and evaluation items as JSONL only."""
    return file.role in ("training", "validation") or file.format is FileFormat.JSONL


def _validation_rows(file: _File) -> Iterator[HeldOut]:
    return held_out_rows(read_records(file.path), file.name)


def _evaluation_items(file: _File) -> Iterator[HeldOut]:
    for record in read_records(file.path) if _is_readable(file) else ():
        if (item := _item(record)) is not None:
            yield held_out_item(item)


def _item(record: Record) -> EvaluationItem | None:
    try:
        return EvaluationItem.model_validate(value_of(record))
    except (RowError, ValueError):
        return None  # the check of its own file names it


CheckAll = Callable[[Iterator[Task]], Iterator[tuple[int, Part]]]


@contextmanager
def _mapper(settings: Settings, workers: int) -> Generator[CheckAll]:
    """What checks tasks and gives their parts back in order, each with how much of its file is read."""
    if workers <= 1:
        checker = BatchChecker(settings)
        yield lambda tasks: ((task.batch.position, checker.check(task)) for task in tasks)
        return
    # Processes are started afresh: a copy of a process with threads, as a server is, may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_prepare, initargs=(settings,)) as pool:
        try:
            yield lambda tasks: _in_order(pool, tasks, workers * WAITING)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _in_order(pool: ProcessPoolExecutor, tasks: Iterator[Task], limit: int) -> Iterator[tuple[int, Part]]:
    waiting: deque[tuple[int, Future[Part]]] = deque()
    for task in tasks:
        waiting.append((task.batch.position, pool.submit(_check, task)))
        if len(waiting) >= limit:
            position, future = waiting.popleft()
            yield position, future.result()
    for position, future in waiting:
        yield position, future.result()


_checker: BatchChecker | None = None
"""Of a worker process; set once when it starts."""


def _prepare(settings: Settings) -> None:
    global _checker
    _checker = BatchChecker(settings)


def _check(task: Task) -> Part:
    assert _checker is not None, "the process was prepared"
    return _checker.check(task)


def _silent(step: str, done: int, total: int) -> None:
    """No one watches."""
