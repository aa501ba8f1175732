"""Learn my library: builds training rows, passages and evaluation items from installed packages."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from model_training.contracts.evaluations import CallCheck, EvaluationItem
from model_training.contracts.indexes import Chunk
from model_training.datasets.leaks import find_leaks
from model_training.datasets.package.call_sites import mine_call_sites
from model_training.datasets.package.chunks import Passages, build_chunks
from model_training.datasets.package.docstrings import Dropped
from model_training.datasets.package.doctests import mine_doctests
from model_training.datasets.package.examples import Mined
from model_training.datasets.package.installed_tests import mine_tests
from model_training.datasets.package.proof import Proven, prove
from model_training.datasets.package.questions import code_items, qa_items
from model_training.datasets.package.reader import read_package
from model_training.datasets.package.readme import mine_readme
from model_training.datasets.package.records import Options, Package, Progress
from model_training.datasets.package.report import FEW_TASKS, DatasetReport, PackageReport, as_markdown
from model_training.datasets.package.runner import run_expressions
from model_training.datasets.package.selection import Selection, select
from model_training.datasets.package.training import training_rows
from model_training.datasets.rows import TrainingRow
from model_training.errors import UserError

FILES = ("train.jsonl", "chunks.jsonl", "evaluation.jsonl", "report.json", "report.md")


@dataclass
class _Part:
    """What one package contributes."""

    package: Package
    proven: Proven
    selection: Selection
    items: list[EvaluationItem]
    rows: list[TrainingRow]
    passages: Passages
    dropped: list[Dropped]


def build_from_packages(
    packages: Sequence[str], out: Path, options: Options | None = None, progress: Progress | None = None
) -> DatasetReport:
    """Write `train.jsonl`, `chunks.jsonl`, `evaluation.jsonl`, `report.json` and `report.md` into `out`.

    The same packages in the same versions, with the same options, give the same bytes. Existing files of these names are
    replaced together at the end; before that nothing is written to `out`.

    Raises:
        UserError: if a package is not installed or cannot be imported, or `out` cannot be written.
    """
    options, tell = options or Options(), progress or _silent
    names = list(dict.fromkeys(packages))
    if not names:
        raise UserError(
            "No package is named.", hint="Name at least one installed package, for example `more_itertools`."
        )
    _check_writable(out)
    read = [read_package(name) for name in _told(names, tell)]
    parts = [_part(package, index, len(read), options, tell) for index, package in enumerate(read)]
    report = _report(parts, options)
    _write(out, parts, report)
    return report


def _silent(_step: str, _done: int, _total: int) -> None:
    pass


def _told(names: list[str], tell: Progress) -> Iterable[str]:
    for index, name in enumerate(names):
        tell("read packages", index, len(names))
        yield name
    tell("read packages", len(names), len(names))


def _part(package: Package, index: int, count: int, options: Options, tell: Progress) -> _Part:
    proven = prove(package, mine(package), options.seed, tell)
    share = [_share(total, index, count) for total in (options.tasks, options.questions, options.rows)]
    selection = select(package, proven.examples, share[0], options)
    tasks, dropped = _proven_items(code_items(selection), package, tell)
    items = [*tasks, *qa_items(selection, share[1])]
    rows = training_rows(selection, {item.group for item in items}, share[2])
    return _Part(package, proven, selection, items, rows, build_chunks(selection), dropped)


def mine(package: Package) -> list[Mined]:
    """Everything that shows how the package is used, the package's own words first."""
    return [mine_doctests(package), mine_readme(package), mine_tests(package), mine_call_sites(package)]


def _share(total: int, index: int, count: int) -> int:
    """An equal share; the first ones take what does not divide."""
    return total // count + (1 if index < total % count else 0)


def _proven_items(
    items: list[EvaluationItem], package: Package, tell: Progress
) -> tuple[list[EvaluationItem], list[Dropped]]:
    """Items whose reference answer, run as the grader would run it, has the expected value."""
    requests: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        assert isinstance(item.check, CallCheck)
        check = item.check
        requests.append(
            {"id": index, "imports": check.imports, "setup": check.setup, "expression": item.answer}
        )
    outcomes = run_expressions(requests, package.imports, tell, f"{package.name}: check answers")
    kept: list[EvaluationItem] = []
    dropped: list[Dropped] = []
    for item, outcome in zip(items, outcomes, strict=True):
        if isinstance(item.check, CallCheck) and outcome.value == item.check.expected:
            kept.append(item)
        else:
            why = outcome.detail or outcome.error or f"gives {outcome.value}"
            dropped.append(Dropped(item.id, f"its own answer fails: {why}"))
    return kept, dropped


def _report(parts: list[_Part], options: Options) -> DatasetReport:
    items, rows, chunks = _all_items(parts), _all_rows(parts), _all_chunks(parts)
    tasks = sum(1 for item in items if item.suite == "code_generation")
    notes: list[str] = []
    if tasks < FEW_TASKS:
        notes.append(
            f"Only {tasks} executable tasks were found (fewer than {FEW_TASKS}): the comparison leans on "
            f"{len(items) - tasks} questions about the documentation. "
            "Examples with literal values in docstrings or tests would give more."
        )
    taught = {row.function for row in rows}
    if untaught := sorted({item.group for item in items} - taught):
        notes.append(
            f"{len(untaught)} functions are asked about and stand in no training row ({', '.join(untaught[:3])}, …): "
            "ask for more rows with --rows."
        )
    return DatasetReport(
        packages=tuple(_package_report(part) for part in parts), seed=options.seed,
        python=".".join(platform.python_version_tuple()[:2]), tasks=tasks, questions=len(items) - tasks,
        rows=sum(1 for row in rows if row.split != "validation"),
        validation_rows=sum(1 for row in rows if row.split == "validation"), chunks=len(chunks),
        held_out=tuple(one for part in parts for one in part.passages.dropped),
        dropped_items=tuple(one for part in parts for one in part.dropped),
        leaks=tuple(find_leaks(items, rows, chunks)), notes=tuple(notes),
    )  # fmt: skip


def _package_report(part: _Part) -> PackageReport:
    tasks = [item for item in part.items if item.suite == "code_generation"]
    questions = [item for item in part.items if item.suite != "code_generation"]
    return PackageReport(
        name=part.package.name, distribution=part.package.distribution, version=part.package.version,
        functions=len(part.package.functions), functions_asked=len({item.group for item in part.items}),
        yields=part.proven.yields, tasks=Counter(item.form for item in tasks),
        task_sources=Counter(item.source.kind or "" for item in tasks),
        questions=Counter(item.form for item in questions), rows=Counter(row.form for row in part.rows),
        chunks=len(part.passages.chunks), unreadable=part.package.failed, not_asked=part.selection.dropped,
    )  # fmt: skip


def _all_items(parts: list[_Part]) -> list[EvaluationItem]:
    items = [item for part in parts for item in part.items]
    return sorted(items, key=lambda item: item.suite)


def _all_rows(parts: list[_Part]) -> list[TrainingRow]:
    return [row for part in parts for row in part.rows]


def _all_chunks(parts: list[_Part]) -> list[Chunk]:
    return [chunk for part in parts for chunk in part.passages.chunks]


def _check_writable(out: Path) -> None:
    """Say early what would fail late. Nothing is made yet: a build that fails leaves nothing behind."""
    if out.exists() and not out.is_dir():
        raise UserError(
            f"-o {out} is a file, not a directory.", hint="Name a directory; it is made if it is missing."
        )
    nearest = next(parent for parent in [out.absolute(), *out.absolute().parents] if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(
            f"The directory {nearest} cannot be written to.", hint="Name another directory with -o."
        )


def _write(out: Path, parts: list[_Part], report: DatasetReport) -> None:
    """All files, written aside first and then moved into place together."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=out) as directory:
            staging = Path(directory)
            _write_lines(staging / "train.jsonl", _all_rows(parts))
            _write_lines(staging / "chunks.jsonl", _all_chunks(parts))
            _write_lines(staging / "evaluation.jsonl", _all_items(parts))
            text = json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n"
            (staging / "report.json").write_text(text, encoding="utf-8")
            (staging / "report.md").write_text(as_markdown(report), encoding="utf-8")
            for name in FILES:
                os.replace(staging / name, out / name)
    except OSError as error:
        raise UserError(
            f"The data set could not be written to {out}: {error.strerror}.",
            hint="Free some space or name another directory with -o.",
        ) from error


def _write_lines(path: Path, values: Iterable[BaseModel]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for value in values:
            file.write(value.model_dump_json(exclude_none=True, exclude_defaults=False) + "\n")
