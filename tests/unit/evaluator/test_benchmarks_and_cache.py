"""Tasks of public benchmarks' form, and answers that are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import InvalidInput
from model_training.contracts.evaluations import SuiteSpec, UnitTestCheck
from services.evaluator.adapters.response_cache import ResponseCache
from services.evaluator.domain import Answer
from services.evaluator.prompts import Question
from services.evaluator.suites.registry import load_suite

TASKS: list[dict[str, Any]] = [
    {
        "task_id": n,
        "prompt": f"Write a function to add {n}.",
        "code": f"import sys\r\ndef helper(x):\r\n\treturn x\r\ndef add_{n}(x):\r\n\treturn helper(x) + {n}",
        "test_imports": ["import math"] if n == 1 else [],
        "test_list": [f"assert add_{n}(1) == {n + 1}", f"assert add_{n}(sys.maxsize) > math.pi"],
    }
    for n in range(1, 6)
]


def written(tmp_path: Path, rows: list[dict[str, Any]], *, lines: bool = False) -> Path:
    path = tmp_path / "tasks.json"
    text = "\n".join(json.dumps(row) for row in rows) if lines else json.dumps(rows)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("lines", [True, False])
def test_mbpp_tasks_become_items(tmp_path: Path, lines: bool) -> None:
    items = load_suite(SuiteSpec(name="mbpp", file="file_x"), written(tmp_path, TASKS, lines=lines))
    assert [item.id for item in items] == [f"MBPP/{n}" for n in range(1, 6)]
    check = items[1].check
    assert isinstance(check, UnitTestCheck)
    assert check.entry_point == "add_2"
    assert check.test.splitlines()[:2] == ["import math", "import sys"], (
        "modules that only the reference imports"
    )
    assert check.completion is not None
    assert check.completion.count("[DONE]") == 3
    assert check.completion.endswith("[BEGIN]\n")
    assert "def add_2" not in check.completion, "no task is its own example"
    assert "def add_1" in check.completion
    assert check.stop == ["[DONE]"]
    assert "\t" not in items[1].answer


def test_humaneval_tasks_of_your_own(tmp_path: Path) -> None:
    task = {
        "task_id": "mine/1",
        "prompt": "def one():\n",
        "canonical_solution": "    return 1\n",
        "test": "def check(f):\n    assert f() == 1\n",
        "entry_point": "one",
    }
    (item,) = load_suite(SuiteSpec(name="mine", file="file_x"), written(tmp_path, [task], lines=True))
    assert (item.id, item.suite, item.answer) == ("mine/1", "mine", "    return 1\n")


@pytest.mark.parametrize(
    ("change", "words"), [({"test_list": ["assert other(1)"]}, "no test calls"), ({"code": None}, "Row 2")]
)
def test_broken_tasks_name_their_row(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    rows = [TASKS[0], {**TASKS[1], **change}]
    with pytest.raises(InvalidInput, match="Row") as caught:
        load_suite(SuiteSpec(name="mbpp", file="file_x"), written(tmp_path, rows))
    assert words in caught.value.detail


def test_answers_are_kept_by_model_prompt_and_parameters(tmp_path: Path) -> None:
    asked: list[Question] = []

    def ask(question: Question) -> Answer:
        asked.append(question)
        return Answer(f"answer {len(asked)}", "p", 0.5, 3, 4, ({"id": "chunk"},))

    path = tmp_path / "responses.sqlite"
    cache = ResponseCache(path, "gemma@1", ask)
    question = Question(prompt="def f", max_tokens=8)
    first = cache.ask(question)
    cache.close()
    again = ResponseCache(path, "gemma@1", ask)
    kept = again.ask(question)
    assert (kept.text, kept.sources, kept.latency_s) == (first.text, first.sources, 0.5)
    assert (first.is_cached, kept.is_cached) == (False, True)
    assert again.ask(Question(prompt="def f", max_tokens=8, seed=3)).is_cached, "a greedy answer has no seed"
    others = [
        Question(prompt="def g", max_tokens=8),
        Question(prompt="def f", max_tokens=9),
        Question(prompt="def f", max_tokens=8, stop=("\n",)),
        Question(prompt="def f", max_tokens=8, temperature=0.8, seed=1),
        Question(prompt="def f", max_tokens=8, temperature=0.8, seed=2),
        Question(messages=(("user", "def f"),), max_tokens=8),
    ]
    assert not any(again.ask(other).is_cached for other in others)
    again.close()
    other_model = ResponseCache(path, "gemma@2", ask)
    assert not other_model.ask(question).is_cached
    other_model.close()


def test_what_was_refused_is_not_kept(tmp_path: Path) -> None:
    def refuse(_: Question) -> Answer:
        raise TimeoutError

    cache = ResponseCache(tmp_path / "responses.sqlite", "m", refuse)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            cache.ask(Question(prompt="x"))
    cache.close()
