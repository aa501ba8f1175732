"""Suites that ask the same question several times: what they ask, and what they make of the answers."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import InvalidInput
from model_training.contracts.evaluations import EvaluationItem, SuiteSpec, TextCheck, UnitTestCheck
from services.evaluator.suites import consistency, robustness
from services.evaluator.suites.code_generation import load_humaneval
from services.evaluator.suites.registry import find_suites, load_suite
from services.evaluator.suites.variants import PERTURBATIONS, WORDINGS, original, vary

ITEM = EvaluationItem(
    id="q1",
    suite="qa_accuracy",
    form="what",
    question="Which function of `more_itertools` returns Chunks of an iterable?",
    answer="chunked",
    group="g",
    check=TextCheck(),
)


def test_ours_are_found_each_under_its_name() -> None:
    known = find_suites()
    wanted = {"code_generation", "humaneval", "qa_accuracy", "robustness", "consistency", "regression"}
    assert wanted <= known.keys()
    assert all(name == suite.name for name, suite in known.items())


def test_a_file_that_is_dropped_in_is_a_suite(tmp_path: Path) -> None:
    source = (
        "from services.evaluator.suites.base import Suite\n"
        "from services.evaluator.suites.code_generation import load_humaneval\n"
        "SUITE = Suite('mine', 'short ones', lambda spec, path: load_humaneval()[:5], lambda rows: {'rows': len(rows)})\n"
    )
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    known = find_suites(tmp_path)
    assert len(load_suite(SuiteSpec(name="mine", limit=3), None, known)) == 3
    assert known["mine"].score([{}, {}]) == {"rows": 2}
    (tmp_path / "broken.py").write_text("SUITE = 1 / 0", encoding="utf-8")
    with pytest.raises(InvalidInput, match="ZeroDivisionError"):
        find_suites(tmp_path)
    (tmp_path / "broken.py").write_text("SUITE = 1", encoding="utf-8")
    with pytest.raises(InvalidInput, match="defines no suite"):
        find_suites(tmp_path)


@pytest.mark.parametrize("variant", [*PERTURBATIONS, *WORDINGS], ids=lambda variant: variant.name)
def test_variants_change_the_question_and_nothing_that_matters(variant: Any) -> None:
    changed = vary(ITEM, variant, "robustness")
    assert changed.question != ITEM.question
    assert "`more_itertools`" in changed.question, "what stands between backticks is code"
    assert (changed.answer, changed.group, changed.of) == (ITEM.answer, ITEM.group, ITEM.id)
    assert changed.id == f"q1~{variant.name}"
    assert vary(ITEM, variant, "robustness") == changed, "the same on every run"


@pytest.mark.parametrize("variant", [*PERTURBATIONS, *WORDINGS], ids=lambda variant: variant.name)
def test_prompts_of_functions_stay_programs(variant: Any) -> None:
    for item in load_humaneval():
        check = vary(item, variant, "robustness").check
        assert isinstance(check, UnitTestCheck)
        assert isinstance(item.check, UnitTestCheck)
        tree = ast.parse(check.prompt + item.answer)
        names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert item.check.entry_point in names


def test_limits_count_questions() -> None:
    items = load_suite(SuiteSpec(name="robustness", limit=3), None)
    assert len(items) == 3 * (1 + len(PERTURBATIONS))
    assert len({item.id for item in items}) == len(items)
    assert {item.suite for item in items} == {"robustness"}
    assert items[0] == original(load_humaneval()[0], "robustness")


def row(of: str, variant: str, output: str, *, correct: bool) -> dict[str, Any]:
    return {"of": of, "variant": variant, "extracted": output, "output": output, "correct": correct}


def test_robustness_says_what_is_kept() -> None:
    rows = [
        row("a", "original", "one", correct=True),
        row("b", "original", "two", correct=True),
        row("a", "typos", "One.", correct=True),
        row("b", "typos", "three", correct=False),
        row("a", "upper_case", "one", correct=True),
        row("b", "upper_case", "two", correct=True),
    ]
    assert robustness.score(rows) == {
        "kept.typos": 0.5,
        "agreement.typos": 0.5,
        "kept.upper_case": 1.0,
        "agreement.upper_case": 1.0,
    }
    nothing_right = [row("a", "original", "x", correct=False), row("a", "typos", "x", correct=False)]
    assert robustness.score(nothing_right) == {"agreement.typos": 1.0}


def test_consistency_counts_pairs_that_agree() -> None:
    rows = [
        row("a", name, text, correct=text == "one")
        for name, text in zip("xyz", ["one", "one", "two"], strict=True)
    ]
    rows += [row("b", name, "same", correct=True) for name in "xyz"]
    found = consistency.score(rows)
    assert found["agreement"] == pytest.approx((1 / 3 + 1) / 2)
    assert found["all_right"] == 0.5
    assert 0 < found["spread"] < 0.5
    assert consistency.score([row("a", "x", "one", correct=True)]) == {}
