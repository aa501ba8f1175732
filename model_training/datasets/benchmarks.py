"""Turns rows of public code benchmarks into evaluation items: HumanEval's form and MBPP's. Your own tasks may have either.

HumanEval: `task_id`, `prompt` (ends inside the function), `canonical_solution`, `test` (defines `check`), `entry_point`.
MBPP: `task_id`, `prompt` or `text`, `code`, `test_list` (assertions), and `test_imports` or `test_setup_code`.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from model_training.contracts.evaluations import EvaluationItem, UnitTestCheck
from model_training.contracts.indexes import Source
from model_training.errors import UserError

SHOTS = 3
"""Solved tasks in front of an MBPP task for a model that continues text, as published scores have it."""
_INSTRUCTION = "Complete this Python function. Answer with the whole function."
_HUMANEVAL = {"task_id", "prompt", "canonical_solution", "test", "entry_point"}
_MBPP = {"task_id", "code", "test_list"}


def is_benchmark(row: dict[str, Any]) -> bool:
    """Whether a row has one of the two forms."""
    return row.keys() >= _HUMANEVAL or row.keys() >= _MBPP


def is_benchmark_file(path: Path) -> bool:
    """Whether a file is a JSON list, or JSON Lines whose first row has one of the two forms."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = next((line for line in file if line.strip()), "")
        row = [] if first.lstrip().startswith("[") else json.loads(first)
    except (OSError, ValueError):
        return False
    return isinstance(row, list) or (isinstance(row, dict) and is_benchmark(cast("dict[str, Any]", row)))


def read_benchmark(path: Path, suite: str, *, package: str | None = None) -> list[EvaluationItem]:
    """The items of a benchmark's file, JSON Lines or one JSON list.

    Raises:
        UserError: the file is no JSON, or a row lacks a field or holds code that is no Python.
    """
    text = path.read_text(encoding="utf-8-sig")
    try:
        rows: list[dict[str, Any]] = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(x) for x in text.splitlines() if x.strip()]
        )
    except ValueError as error:
        raise UserError(f"{path.name} is no JSON: {error}", hint="One object a line, or one list.") from error
    source = Source(package=package, kind="benchmark", path=path.name)
    return items_of(rows, suite, source)


def items_of(rows: Sequence[dict[str, Any]], suite: str, source: Source) -> list[EvaluationItem]:
    """One item for each row, in order. Raises UserError that names the row."""
    items: list[EvaluationItem] = []
    for number, row in enumerate(rows, start=1):
        for name in (_HUMANEVAL | _MBPP) & row.keys() - {"task_id", "test_list"}:
            if not isinstance(row[name], str):
                raise UserError(f"Row {number}: `{name}` is {row[name]!r}, which is no text.")
    for number, row in enumerate(rows, start=1):
        try:
            if row.keys() >= _HUMANEVAL:
                items.append(_humaneval(row, suite, source))
            elif row.keys() >= _MBPP:
                others = [other for other in rows[: SHOTS + 1] if other is not row][:SHOTS]
                items.append(_mbpp(row, others, suite, source))
            else:
                raise KeyError(", ".join(sorted(_MBPP - row.keys())) or "test_list")
        except (KeyError, SyntaxError, TypeError) as error:
            raise UserError(
                f"Row {number} is no task of HumanEval's or MBPP's form: {error}.",
                hint="Needed: task_id, prompt, canonical_solution, test, entry_point; or task_id, prompt, code, test_list.",
            ) from error
    return items


def _humaneval(row: dict[str, Any], suite: str, source: Source) -> EvaluationItem:
    return EvaluationItem(
        id=str(row["task_id"]),
        suite=suite,
        form="complete_function",
        question=f"{_INSTRUCTION}\n\n```python\n{row['prompt'].rstrip()}\n```",
        answer=row["canonical_solution"],
        group=str(row["task_id"]),
        check=UnitTestCheck(prompt=row["prompt"], entry_point=row["entry_point"], test=row["test"]),
        source=source,
    )


def _mbpp(row: dict[str, Any], shots: Sequence[dict[str, Any]], suite: str, source: Source) -> EvaluationItem:
    setup = [*row.get("test_imports", []), *_lines(row.get("test_setup_code"))]
    tests = [*setup, *row["test_list"]]
    name = f"MBPP/{row['task_id']}"
    return EvaluationItem(
        id=name,
        suite=suite,
        form="write_function",
        question=f"{_task(row)}\n\nAnswer with the whole function.",
        answer=f"```python\n{_clean(row['code'])}\n```",
        group=name,
        check=UnitTestCheck(
            prompt="",
            entry_point=_entry_point(row),
            test="\n".join([*_missing_imports(tests), *tests]) + "\n",
            completion="\n\n".join(
                [*(f"{_begun(shot)}{_clean(shot['code'])}\n[DONE]" for shot in shots), _begun(row)]
            ),
            stop=["[DONE]"],
        ),
        source=source,
    )


def _task(row: dict[str, Any]) -> str:
    text = row.get("prompt") or row["text"]
    tests = "\n".join(row["test_list"])
    return (
        f"You are an expert Python programmer, and here is your task: {text.strip()} "
        f"Your code should pass these tests:\n\n{tests}"
    )


def _begun(row: dict[str, Any]) -> str:
    return f"{_task(row)}\n[BEGIN]\n"


def _clean(code: str) -> str:
    return code.replace("\r\n", "\n").replace("\t", "    ").strip()


def _lines(text: str | None) -> list[str]:
    return [text.replace("\r\n", "\n")] if text and text.strip() else []


def _entry_point(row: dict[str, Any]) -> str:
    """The function that the tests call: of those that the reference defines, the one that the first test names first."""
    defined = set(re.findall(r"^def\s+(\w+)", _clean(row["code"]), re.MULTILINE))
    for test in row["test_list"]:
        for name in re.findall(r"\w+", test):
            if name in defined:
                return name
    raise KeyError("no test calls a function that `code` defines")


def _missing_imports(tests: Sequence[str]) -> list[str]:
    """Modules of the standard library that tests use without importing them: the reference solution happens to do it."""
    trees = [ast.parse(test) for test in tests]
    names = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    used = {node.value.id for tree in trees for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}  # fmt: skip
    return [f"import {name}" for name in sorted((used - bound) & sys.stdlib_module_names)]
