"""Reading items: every faulty row is named, and a suite that is not there says what is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import InvalidInput
from model_training.contracts.evaluations import SuiteSpec
from services.evaluator.suites.files import read_items
from services.evaluator.suites.registry import load_suite


def row(id: str = "a", suite: str = "code_generation", **changes: Any) -> dict[str, Any]:
    check = {"type": "call", "package": "toolz", "imports": ["import toolz"], "expected": "[1]"}
    base = {
        "id": id,
        "suite": suite,
        "form": "f",
        "question": "q",
        "answer": "a",
        "group": "g",
        "check": check,
    }
    return {**base, **changes}


def write(path: Path, *rows: Any) -> Path:
    file = path / "items.jsonl"
    lines = [one if isinstance(one, str) else json.dumps(one) for one in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_suite_by_name_and_limit(tmp_path: Path) -> None:
    path = write(tmp_path, row("a"), "", row("b", "qa_accuracy"), row("c"), row("d"))
    spec = SuiteSpec(name="code_generation", file="file_x", limit=2)
    assert [item.id for item in load_suite(spec, path)] == ["a", "c"]
    with pytest.raises(InvalidInput, match="no items") as caught:
        load_suite(SuiteSpec(name="other", file="file_x"), path)
    assert "code_generation, qa_accuracy" in (caught.value.hint or "")


def test_every_faulty_row_is_named(tmp_path: Path) -> None:
    bad_check = {"type": "call", "package": "toolz", "expected": "open('x')"}
    path = write(
        tmp_path, row("a"), "{", row("a"), row("b", question=""), row("c", check=bad_check), row("d", extra=1)
    )
    with pytest.raises(InvalidInput, match="5 rows") as caught:
        read_items(path)
    faults = {fault.row: fault.field for fault in caught.value.rows or []}
    assert faults == {2: None, 3: "id", 4: "question", 5: "check.expected", 6: "extra"}


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(json.dumps(row(question="ü"), ensure_ascii=False).encode("latin-1"))
    with pytest.raises(InvalidInput, match="UTF-8"):
        read_items(path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_items(tmp_path / "missing")


@pytest.mark.parametrize("name", ["humaneval", "code_generation"])
def test_humaneval_comes_with_its_package(name: str) -> None:
    items = load_suite(SuiteSpec(name=name, limit=3), None)
    assert [item.id for item in items] == ["HumanEval/0", "HumanEval/1", "HumanEval/2"]
    assert {item.suite for item in items} == {name}


@pytest.mark.parametrize(("name", "words"), [("qa_accuracy", "data/evaluation"), ("other", "mt dataset")])
def test_suites_that_need_a_file_say_so(name: str, words: str) -> None:
    with pytest.raises(InvalidInput, match="needs a file") as caught:
        load_suite(SuiteSpec(name=name), None)
    assert words in (caught.value.hint or "")
