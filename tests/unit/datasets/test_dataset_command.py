"""`mt dataset check` and `mt dataset combine` as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from typer.testing import CliRunner

from model_training.cli.dataset import app
from model_training.datasets.rows import read_rows


def put(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def run(*arguments: str):
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, list(arguments))


def test_warnings_end_with_0_and_errors_with_1(tmp_path):
    good = {"question": "What is 1 + 1?", "answer": "2"}
    path = put(tmp_path / "a.jsonl", good, good)
    result = run("check", path)
    assert result.exit_code == 0
    assert "duplicate: 1 warning" in result.stdout
    assert "a.jsonl:2  is the same as row 1" in result.stdout
    assert "0 errors, 1 warning." in result.stdout
    path = put(tmp_path / "b.jsonl", good, {"instruction": "x", "output": ""})
    result = run("check", path)
    assert result.exit_code == 1
    assert "b.jsonl:2  answer is empty" in result.stdout or "b.jsonl:2  output is empty" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_json_is_for_programs(tmp_path):
    path = put(tmp_path / "a.jsonl", {"messages": []})
    result = run("check", path, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["errors"], report["warnings"], report["counts"]) == (1, 0, {"schema": 1})
    assert report["findings"][0] == {
        "check": "schema", "severity": "error", "file": "a.jsonl", "row": 1, "field": "messages",
        "message": "needs at least a user and an assistant message",
    }  # fmt: skip


def test_evaluation_items_are_looked_for(tmp_path):
    item = {
        "id": "i", "suite": "qa_accuracy", "form": "user", "question": "What is 1 + 1?", "answer": "2", "group": "g",
        "check": {"type": "text"},
    }  # fmt: skip
    rows = put(tmp_path / "a.jsonl", {"prompt": "what is 1 + 1?", "completion": "Two."})
    result = run("check", rows, "--evaluation", put(tmp_path / "e.jsonl", item))
    assert result.exit_code == 1
    assert "leak: 1 error" in result.stdout
    assert "asks the question of evaluation row i" in " ".join(result.stdout.split())


def test_a_wrong_request_is_one_sentence(tmp_path):
    path = put(tmp_path / "a.jsonl", {"question": "a", "answer": "b"})
    for arguments, sentence in [
        (("check", str(tmp_path / "none")), "No such file"),
        (("check", path, "--max-length", "9"), "--max-length counts tokens"),
        (("check", path, "--tokenizer", path), "is no tokenizer"),
        (("combine", f"{path}=x", "-o", str(tmp_path / "o")), "is no number"),
    ]:
        result = run(*arguments)
        assert result.exit_code == 1
        assert sentence in " ".join(result.output.split())


def test_files_of_all_formats_are_combined(tmp_path):
    rows = put(tmp_path / "a.jsonl", {"prompt": "a", "completion": "b"})
    table = tmp_path / "b.csv"
    table.write_text("instruction,output,kind\nc,d,code\n", encoding="utf-8")
    out = tmp_path / "deep" / "out.jsonl"
    result = run("combine", f"{rows}=2", str(table), "-o", str(out))
    assert result.exit_code == 0
    assert [(row.id, row.question, row.kind) for row in read_rows(out)] == [
        ("a/row-1", "a", "qa"), ("a/row-1#2", "a", "qa"), ("b/row-2", "c", "code"),
    ]  # fmt: skip


def test_a_big_file_is_checked_behind_a_bar_by_several_processes(tmp_path):
    path = tmp_path / "a.jsonl"
    filler = "x " * 200_000
    with path.open("w", encoding="utf-8") as file:
        for number in range(45):
            file.write(json.dumps({"question": f"q{number}", "answer": filler}) + "\n")
    result = subprocess.run(
        [sys.executable, "-m", "model_training.cli.dataset", "check", str(path), "--workers", "2"],
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=False, env=os.environ | {"COLUMNS": "80"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "45 rows" in result.stdout
    assert "rows" in result.stderr
    assert "100%" in result.stderr


def test_the_bare_install_is_enough_to_check_jsonl(tmp_path):
    path = put(tmp_path / "a.jsonl", {"question": "a", "answer": "b"})
    heavy = ("pyarrow", "numpy", "rensa", "tokenizers", "torch", "pandas")
    code = (
        "import sys\n"
        f"for name in {heavy}: sys.modules[name] = None\n"
        "from model_training.datasets.validation import check_file\n"
        "from model_training.cli.dataset import app\n"
        f"assert check_file({path!r}, 'fine-tune').rows == 1\n"
        f"app(['check', {path!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "No faults." in done.stdout
