"""Reads evaluation items from a file: ours, one a line, or tasks of HumanEval's or MBPP's form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from libs.common.errors import InvalidInput
from model_training.contracts.evaluations import CallCheck, EvaluationItem
from model_training.contracts.problems import RowFault
from model_training.datasets.benchmarks import is_benchmark_file, read_benchmark
from model_training.errors import UserError
from services.evaluator.domain import read_expected

_MAX_FAULTS = 100


def items_of_suite(path: Path, name: str, file: str | None) -> list[EvaluationItem]:
    """A file's items of one suite; tasks of a benchmark's form belong to whatever suite is asked for.

    Raises:
        InvalidInput: broken rows (each named), or no item of that name in the file.
    """
    if is_benchmark_file(path):
        try:
            return read_benchmark(path, name)
        except UserError as error:
            raise InvalidInput(error.message, param="suites", hint=error.hint) from error
    rows = read_items(path)
    items = [item for item in rows if item.suite == name]
    if not items:
        names = ", ".join(sorted({item.suite for item in rows})) or "none"
        raise InvalidInput(
            f"the file {file} holds no items of the suite {name!r}",
            param="suites",
            hint=f"Suites in this file: {names}.",
        )
    return items


def read_items(path: Path) -> list[EvaluationItem]:
    """All items of a JSON Lines file. Raises InvalidInput that names each faulty row."""
    items: list[EvaluationItem] = []
    faults: list[RowFault] = []
    seen: dict[str, int] = {}
    for row, line in _lines(path):
        try:
            item = EvaluationItem.model_validate_json(line)
            if isinstance(item.check, CallCheck):
                read_expected(item.check.expected)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or None
            faults.append(RowFault(row=row, field=field, message=first["msg"]))
        except ValueError as error:
            faults.append(RowFault(row=row, field="check.expected", message=str(error)))
        else:
            if item.id in seen:
                faults.append(
                    RowFault(row=row, field="id", message=f"{item.id!r} stands in row {seen[item.id]} too")
                )
            seen.setdefault(item.id, row)
            items.append(item)
    if faults:
        where = f"row {faults[0].row}, {faults[0].field}: {faults[0].message}"
        raise InvalidInput(
            f"{len(faults)} rows of the evaluation file are faulty; {where}",
            param="suites",
            rows=faults[:_MAX_FAULTS],
        )
    return items


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for row, line in enumerate(file, start=1):
                if line.strip():
                    yield row, line
    except UnicodeDecodeError as error:
        raise InvalidInput(
            "the evaluation file is not UTF-8", param="suites", hint="Save it as UTF-8."
        ) from error
    except OSError as error:
        raise InvalidInput(f"the evaluation file cannot be read: {error.strerror}", param="suites") from error
