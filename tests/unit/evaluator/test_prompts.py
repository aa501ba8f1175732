"""How questions are put: who sees examples, which ones, and that the choice never leaks or wavers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_training.contracts.evaluations import (
    CallCheck,
    EvaluationItem,
    PromptSpec,
    TextCheck,
    UnitTestCheck,
)
from model_training.datasets.rows import TrainingRow
from services.evaluator.prompts import MIN_FUNCTION_TOKENS, ModelTraits, PromptBuilder, shots_for

BASE = ModelTraits("gemma-3-270m", is_tuned=False, is_retrieval=False)
RAG = ModelTraits("gemma-3-270m", is_tuned=False, is_retrieval=True)
TUNED = ModelTraits("gemma-3-270m", is_tuned=True, is_retrieval=False)
INSTRUCTED = ModelTraits("gemma-3-270m-it", is_tuned=False, is_retrieval=False)
FORMS = {"write_call": "code", "fit_need": "code", "what_does": "qa", "which_function": "qa"}


def item(form: str = "write_call", group: str = "lib.f0") -> EvaluationItem:
    code = FORMS[form] == "code"
    check = CallCheck(package="lib", expected="1") if code else TextCheck()
    return EvaluationItem(
        id="i", suite="s", form=form, question="The question?", answer="a", group=group, check=check
    )


def rows(count: int = 10) -> list[TrainingRow]:
    return [
        TrainingRow(
            id=f"{form}-{n}",
            kind=kind,
            form=form,
            question=f"{form} {n}?",
            answer=f"f{n}",
            function=f"lib.f{n}",
        )  # type: ignore[arg-type]
        for form, kind in FORMS.items()
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("traits", "shots", "expected"),
    [
        (BASE, "auto", 4),
        (RAG, "auto", 4),
        (TUNED, "auto", 0),
        (INSTRUCTED, "auto", 0),
        (TUNED, 2, 2),
        (BASE, 0, 0),
    ],
)
def test_who_sees_examples(traits: ModelTraits, shots: int, expected: int) -> None:
    assert shots_for(PromptSpec(shots=shots), traits, has_examples=True) == expected


def test_without_a_file_there_are_no_examples() -> None:
    builder = PromptBuilder(PromptSpec(), BASE, [])
    assert builder.build(item()).messages == (("user", "The question?"),)
    assert "name an examples_file" in builder.describe([item()])


@given(st.sampled_from(list(FORMS)), st.integers(0, 9), st.integers(0, 5), st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_examples_are_of_other_functions_and_of_the_form(form: str, n: int, seed: int, shots: int) -> None:
    asked = item(form, f"lib.f{n}")
    builder = PromptBuilder(PromptSpec(shots=shots), BASE, rows(), seed=seed)
    chosen = builder.examples_for(asked)
    assert len(chosen) == shots
    assert asked.group not in {row.group for row in chosen}
    assert len({row.group for row in chosen}) == shots
    assert {row.form for row in chosen} <= {form}
    again = PromptBuilder(PromptSpec(shots=shots), BASE, rows()[::-1], seed=seed).examples_for(asked)
    assert again == chosen, "the order of the file does not matter"


def test_other_forms_of_the_kind_fill_up_and_stand_further_away() -> None:
    few = [row for row in rows(3) if row.form != "fit_need" or row.function == "lib.f1"]
    chosen = PromptBuilder(PromptSpec(shots=3), BASE, few).examples_for(item("fit_need"))
    assert [row.form for row in chosen][-1] == "fit_need"
    assert {row.kind for row in chosen[:-1]} <= {"code", "qa"}
    assert chosen[1].kind == "code"


def test_the_items_own_question_is_no_example() -> None:
    leak = TrainingRow(form="write_call", kind="code", question="The question?", answer="leak")
    assert PromptBuilder(PromptSpec(shots=1), BASE, [leak]).examples_for(item()) == []


def test_turns_end_with_the_question() -> None:
    question = PromptBuilder(PromptSpec(max_tokens=32), BASE, rows()).build(item())
    assert [role for role, _ in question.messages] == ["user", "assistant"] * 4 + ["user"]
    assert question.messages[-1] == ("user", "The question?")
    assert question.max_tokens == 32
    assert question.stop == ()


@pytest.mark.parametrize(
    ("traits", "plain"), [(BASE, True), (TUNED, True), (INSTRUCTED, False), (RAG, False)]
)
def test_functions_are_continued_by_models_that_follow_no_instruction(
    traits: ModelTraits, plain: bool
) -> None:
    check = UnitTestCheck(prompt="def f():\n", entry_point="f", test="")
    question = PromptBuilder(PromptSpec(), traits, []).build(item().model_copy(update={"check": check}))
    assert (question.prompt == "def f():\n") is plain
    assert bool(question.messages) is not plain
    assert question.max_tokens == MIN_FUNCTION_TOKENS
    assert bool(question.stop) is plain


def test_the_description_shows_the_whole_prompt() -> None:
    text = PromptBuilder(PromptSpec(), BASE, rows()).describe([item(), item("what_does")])
    assert "4 solved examples" in text
    assert text.count("user: ") == 2 * (4 + 1), "the first item of each suite and form of check"
    assert "assistant: f" in text
