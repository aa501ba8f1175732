"""Learn my library: what is built from a package holds what it promises."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_training.cli.dataset import app
from model_training.contracts.evaluations import CallCheck, EvaluationItem
from model_training.contracts.indexes import Chunk
from model_training.datasets.package.build import FILES, build_from_packages
from model_training.datasets.package.calls import keys_in_text, normalise
from model_training.datasets.package.records import Options
from model_training.datasets.rows import TrainingRow, read_rows
from model_training.datasets.validation import check_file
from model_training.errors import UserError


def items_of(directory: Path) -> list[EvaluationItem]:
    lines = (directory / "evaluation.jsonl").read_text(encoding="utf-8").splitlines()
    return [EvaluationItem.model_validate_json(line) for line in lines]


def chunks_of(directory: Path) -> list[Chunk]:
    lines = (directory / "chunks.jsonl").read_text(encoding="utf-8").splitlines()
    return [Chunk.model_validate_json(line) for line in lines]


def rows_of(directory: Path) -> list[TrainingRow]:
    return list(read_rows(directory / "train.jsonl"))


@pytest.mark.parametrize("which", ["built", "built_toolz"])
def test_the_files_pass_the_platforms_own_check(which, request):
    directory = request.getfixturevalue(which).directory
    for name, purpose in (("train", "fine-tune"), ("chunks", "chunks"), ("evaluation", "evaluation")):
        report = check_file(directory / f"{name}.jsonl", purpose)
        assert (report.fault_count, report.faults) == (0, [])
        assert report.rows > 10
        assert report.duplicates == 0


@pytest.mark.parametrize("which", ["built", "built_toolz"])
def test_no_held_out_call_stands_in_a_row_or_a_passage(which, request):
    directory = request.getfixturevalue(which).directory
    held = {}
    for item in items_of(directory):
        if isinstance(item.check, CallCheck):
            name = item.group.rsplit(".", 1)[-1]
            calls = [n for n in ast.walk(ast.parse(item.answer)) if isinstance(n, ast.Call)]
            ours = next(n for n in calls if isinstance(n.func, ast.Name) and n.func.id == name)
            whole = item.form == "use_object"
            held[normalise(ast.parse(item.answer, mode="eval").body if whole else ours)] = item.id
    assert held
    texts = [f"{row.question}\n{row.answer}" for row in rows_of(directory)]
    texts += [chunk.text for chunk in chunks_of(directory)]
    for text in texts:
        assert not keys_in_text(text) & held.keys()
        assert not any(key in text for key in held)


@pytest.mark.parametrize("which", ["built", "built_toolz"])
def test_every_function_that_is_asked_about_is_taught_and_indexed(which, request):
    directory = request.getfixturevalue(which).directory
    asked = {item.group for item in items_of(directory)}
    shown = {row.function for row in rows_of(directory) if row.kind == "code"}
    tasks = {item.group for item in items_of(directory) if item.suite == "code_generation"}
    assert asked <= {row.function for row in rows_of(directory) if row.split != "validation"}
    assert tasks <= shown
    for name in tasks:
        page = "\n".join(chunk.text for chunk in chunks_of(directory) if name in chunk.functions)
        assert ">>>" in page, name


@pytest.mark.parametrize("which", ["built", "built_toolz"])
def test_no_question_of_the_evaluation_stands_in_training(which, request):
    directory = request.getfixturevalue(which).directory
    questions = {row.question for row in rows_of(directory)}
    assert not questions & {item.question for item in items_of(directory)}


def test_reference_answers_pass_in_a_python_of_their_own(built, sample_package):
    checked = [row for row in rows_of(built.directory) if row.check]
    assert checked
    assert all(row.split == "validation" and row.kind == "code" for row in checked)
    asked = [*items_of(built.directory), *checked]
    code = [one for one in asked if isinstance(one.check, CallCheck)]
    assert len(code) >= 6 + len(checked)
    script = "import sys, json\nsys.path.insert(0, sys.argv[1])\nresult = []\n"
    script += "for imports, answer in json.load(sys.stdin):\n    space = {}\n    for line in imports: exec(line, space)\n"
    script += "    result.append(repr(eval(answer, space)))\nprint(json.dumps(result))"
    values = json.loads(
        subprocess.run(
            [sys.executable, "-c", script, str(sample_package.site)],
            input=json.dumps([(item.check.imports, item.answer) for item in code]),
            capture_output=True, text=True, check=True,
        ).stdout
    )  # fmt: skip
    for item, value in zip(code, values, strict=True):
        assert ast.literal_eval(value) == ast.literal_eval(item.check.expected), item.id


def test_each_source_gives_what_it_holds(built):
    yields = built.report.packages[0].yields
    assert yields["doctest"].confirmed == 12
    assert yields["test"].confirmed == 6
    assert yields["readme"].confirmed == 1
    assert yields["varied_example"].confirmed > 20
    kinds = {item.source.kind for item in items_of(built.directory) if item.suite == "code_generation"}
    assert kinds & {"doctest", "test"}


@pytest.mark.parametrize(
    "function",
    ["forever", "slow_sum", "lucky", "place", "moment", "colours", "lying", "nap", "wipe", "silent"],
)
def test_what_has_no_steady_value_is_no_example(built, function):
    code = [row.answer for row in rows_of(built.directory) if row.kind == "code"]
    code += [item.answer for item in items_of(built.directory) if item.suite == "code_generation"]
    assert not any(f"{function}(" in answer for answer in code if "islice" not in answer)


def test_bad_examples_are_dropped_with_their_reason(built, sample_package):
    dropped = built.report.packages[0].yields["doctest"].dropped
    assert dropped["unstable"] == 4  # lucky, place, moment, colours
    assert dropped["function is unstable elsewhere"] == 1  # lucky() >= 0
    assert dropped["endless or too large"] == 2  # forever, slow_sum
    assert dropped["differs from its documentation"] == 1  # lying
    assert dropped["raised"] == 2  # nap and wipe are not allowed to
    assert sample_package.canary.read_text(encoding="utf-8") == "still here"
    assert "samplekit.broken" in built.report.packages[0].unreadable


def test_what_was_taken_out_is_reported(built):
    assert built.report.held_out
    pages = {chunk.title: chunk.text for chunk in chunks_of(built.directory)}
    for one in built.report.held_out:
        assert one.text not in pages.get(one.where, "")
    assert built.report.leaks == ()
    text = (built.directory / "report.md").read_text(encoding="utf-8")
    assert "Only" in text
    assert "fewer than 50" in text


def test_the_same_package_gives_the_same_bytes(built, sample_package, tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from model_training.datasets.package.build import build_from_packages\n"
        "from model_training.datasets.package.records import Options\n"
        "build_from_packages(['sample-kit'], Path(sys.argv[2]), Options(tasks=12, questions=12, rows=60))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.getcwd()}
    arguments = [sys.executable, "-c", script, str(sample_package.site), str(tmp_path)]
    subprocess.run(arguments, check=True, env=environment)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (built.directory / name).read_bytes(), name


def test_the_sizes_are_kept(built_toolz):
    report = built_toolz.report
    assert (report.tasks, report.questions, report.rows) == (40, 40, 200)
    assert max(len(row.question.split()) for row in rows_of(built_toolz.directory)) <= 60
    assert report.packages[0].yields["test"].confirmed > 50


def test_the_front_door_with_another_seed(built, tmp_path):
    out = tmp_path / "new" / "out"
    arguments = [
        "from-package",
        "samplekit",
        "-o",
        str(out),
        "--tasks",
        "4",
        "--qa",
        "5",
        "--rows",
        "20",
        "--seed",
        "3",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "varied" in result.output
    assert "Only 4 executable tasks" in " ".join(result.output.split())
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert not {item.id for item in items_of(out) if "code" in item.suite} <= {
        item.id for item in items_of(built.directory)
    }


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (None, "'missingkit' is not installed", "pip install missingkit"),
        ("raise RuntimeError('no licence found')", "no licence found", "import missingkit"),
        ("import os; os._exit(3)", "exit code 3", "faulthandler"),
        ("_private = 1", "no public function", "underscore"),
    ],
)
def test_a_package_that_cannot_be_read_is_one_sentence(site, tmp_path, content, message, hint):
    if content is not None:
        (site / "missingkit").mkdir()
        (site / "missingkit" / "__init__.py").write_text(content, encoding="utf-8")
    result = CliRunner().invoke(app, ["from-package", "missingkit", "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())
    assert hint in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path, sample_package):
    target = tmp_path / "file"
    target.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="is a file"):
        build_from_packages(["samplekit"], target)
    assert target.read_text(encoding="utf-8") == "mine"


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    build = f"{sys.executable} -m model_training.cli.dataset from-package toolz --tasks 3 -o {tmp_path}/out"
    command = f"ulimit -f 8; exec {build}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.returncode == 1
    assert "could not be written" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not any((tmp_path / "out").iterdir())


def test_a_build_that_is_interrupted_leaves_nothing_running_or_written(tmp_path):
    children = Path(f"/proc/self/task/{os.getpid()}/children")

    def interrupt(step: str, done: int, _total: int) -> None:
        if "run varied" in step and done:
            raise KeyboardInterrupt

    before = children.read_text(encoding="ascii") if children.exists() else ""
    with pytest.raises(KeyboardInterrupt):
        build_from_packages(["toolz"], tmp_path / "out", Options(), interrupt)
    assert not (tmp_path / "out").exists()
    assert (children.read_text(encoding="ascii") if children.exists() else "") == before
