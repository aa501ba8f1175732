"""Checking a file: each fault is found with its row, field and a message, and nothing good is refused."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from typer.testing import CliRunner

from model_training.cli.dataset import app
from model_training.datasets.rows import MAX_LINE_BYTES
from model_training.datasets.validation import KEPT_FAULTS, check_file
from model_training.errors import UserError

GOOD_ROW = {"question": "What is 1 + 1?", "answer": "2"}
GOOD_CHUNK = {"id": "a", "title": "A", "text": "Some words."}
GOOD_ITEM = {
    "id": "a", "suite": "code_generation", "form": "write_call", "question": "Sort it.", "answer": "sorted([2, 1])",
    "group": "sorted", "check": {"type": "call", "package": "builtins", "expected": "[1, 2]"},
}  # fmt: skip
CONVERSATION = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def line(value) -> bytes:
    return json.dumps(value).encode() + b"\n"


def changed(base: dict, **changes) -> bytes:
    return line({key: value for key, value in {**base, **changes}.items() if value is not None})


@pytest.mark.parametrize(
    ("purpose", "content", "field", "message"),
    [
        ("fine-tune", b'{"question": "a", "answer": "b"\n', None, "broken JSON at column"),
        ("fine-tune", b'{"question": "a", "answer": NaN}\n', None, "NaN is not JSON"),
        ("fine-tune", b'{"question": "caf\xe9", "answer": "b"}\n', None, "not UTF-8: byte 18 is 0xe9"),
        ("fine-tune", '{"question": "a", "answer": "b"}\n'.encode("utf-16"), None, "not UTF-8"),
        ("fine-tune", b"[1, 2]\n", None, "must be a JSON object, this is a list"),
        ("fine-tune", b"null\n", None, "must be a JSON object, this is null"),
        ("fine-tune", b"[" * 100_000 + b"\n", None, "nested too deeply"),
        (
            "fine-tune",
            b'{"question": "' + b"a" * MAX_LINE_BYTES + b'", "answer": "b"}\n',
            None,
            "longer than 4 MB",
        ),
        ("fine-tune", line({"question": "a"}), "answer", "is missing"),
        ("fine-tune", line({"question": "a", "anwser": "b"}), "answer", "is missing"),
        ("fine-tune", line({"question": "a", "answer": "  "}), "answer", "is empty"),
        ("fine-tune", line({"question": "", "answer": "b"}), "question", "is empty"),
        ("fine-tune", line({"question": "a", "answer": 3}), "answer", "must be text, this is a number"),
        ("fine-tune", line({"prompt": "a"}), "completion", "is missing"),
        ("fine-tune", line({"messages": []}), "messages", "at least a user and an assistant"),
        ("fine-tune", line({"messages": CONVERSATION[::-1]}), "messages", "must end with a user message"),
        (
            "fine-tune",
            line({"messages": [{"role": "robot", "content": "x"}] * 2}),
            "messages.0.role",
            "Input should be",
        ),
        (
            "fine-tune",
            line({"messages": [CONVERSATION[0], {"role": "assistant", "content": " "}]}),
            "answer",
            "is empty",
        ),
        (
            "fine-tune",
            changed(GOOD_ROW, id="x") + changed(GOOD_ROW, id="x"),
            "id",
            "'x' is also the id of row 1",
        ),
        ("fine-tune", changed(GOOD_ROW, kind="poem"), "kind", "Input should be"),
        ("chunks", changed(GOOD_CHUNK, text=None), "text", "Field required"),
        ("chunks", changed(GOOD_CHUNK, text="  "), "text", "is empty"),
        ("chunks", changed(GOOD_CHUNK, color="red"), "color", "Extra inputs are not permitted"),
        ("chunks", line(GOOD_CHUNK) + changed(GOOD_CHUNK, text="Other."), "id", "also the id of row 1"),
        ("evaluation", changed(GOOD_ITEM, group=None), "group", "Field required"),
        (
            "evaluation",
            changed(GOOD_ITEM, check={"type": "guess"}),
            "check",
            "does not match any of the expected tags",
        ),
        (
            "evaluation",
            changed(GOOD_ITEM, check={"type": "call", "expected": "1"}),
            "check.package",
            "Field required",
        ),
        (
            "evaluation",
            changed(GOOD_ITEM, check={**GOOD_ITEM["check"], "expected": "open('x')"}),
            "check.expected",
            "must be a Python literal",
        ),
        (
            "evaluation",
            changed(GOOD_ITEM, check={**GOOD_ITEM["check"], "imports": ["import os", "from from"]}),
            "check.imports.1",
            "is no Python statement",
        ),
    ],
)
def test_a_fault_is_named_with_row_field_and_rule(tmp_path, purpose, content, field, message):
    good = {"fine-tune": GOOD_ROW, "chunks": GOOD_CHUNK, "evaluation": GOOD_ITEM}[purpose]
    path = tmp_path / "data.jsonl"
    utf16 = content.startswith(b"\xff\xfe")
    path.write_bytes(content if utf16 else content + changed(good, id="last"))
    report = check_file(path, purpose)
    last_bad = content.count(b"\n") if not utf16 else 1
    assert report.faults[0].row == last_bad
    assert report.faults[0].field == field
    assert message in report.faults[0].message
    assert utf16 or report.fault_count == 1


def test_good_rows_of_every_shape_are_counted(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [
        GOOD_ROW,
        {"messages": CONVERSATION},
        {"prompt": "p", "completion": "c"},
        {**GOOD_ROW, "kind": "code"},
    ]
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(line(row) for row in rows) + line(GOOD_ROW).rstrip())
    report = check_file(path, "fine-tune")
    assert (report.rows, report.fault_count, report.kinds) == (5, 0, {"code": 1, "qa": 4})
    assert report.duplicates == 2
    assert report.characters > 30


def test_all_faults_are_counted_and_the_first_hundred_kept(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"{\n" * 250)
    report = check_file(path, "fine-tune")
    assert (report.rows, report.fault_count, len(report.faults)) == (250, 250, KEPT_FAULTS)


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_a_file_without_rows_is_at_fault(tmp_path, content):
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    report = check_file(path, "chunks")
    assert report.fault_count == 1
    assert "no rows" in report.faults[0].message


def test_a_missing_file_and_an_unknown_purpose_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        check_file(tmp_path / "none.jsonl", "fine-tune")
    with pytest.raises(UserError, match="purpose = 'batch' is unknown"):
        check_file(tmp_path / "none.jsonl", "batch")


def test_memory_does_not_grow_with_the_rows_text(tmp_path):
    path = tmp_path / "data.jsonl"
    with path.open("wb") as file:
        for number in range(3000):
            file.write(line({"question": f"{number} " + "q" * 4000, "answer": "a"}))
    tracemalloc.start()
    report = check_file(path, "fine-tune")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report.rows == 3000
    assert peak < path.stat().st_size / 4


def test_the_command_prints_faults_and_ends_with_1(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(line(GOOD_ROW))
    assert CliRunner().invoke(app, ["check", str(path), "--purpose", "fine-tune"]).exit_code == 0
    path.write_bytes(line(GOOD_ROW) + line({"question": "a"}))
    result = CliRunner().invoke(app, ["check", str(path), "--purpose", "fine-tune"])
    assert result.exit_code == 1
    assert "answer" in result.stdout
    assert CliRunner().invoke(app, ["check", str(tmp_path / "no.jsonl")]).exit_code == 1
