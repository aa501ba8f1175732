"""Leaks, failures and what follows from them, the deployment, and two runs side by side."""

from __future__ import annotations

from typing import Any

import pytest

from model_training.comparison_service.changes import changes
from model_training.contracts.comparisons import ArmSpec, ComparisonCreate, Finding
from services.comparator.domain.analysis import Analysis, analyse
from services.comparator.domain.arms import Arm
from services.comparator.domain.deployment import deployment
from tests.unit.comparator.demo_report import demo_report
from tests.unit.comparator.made_up import answer, arm, arm_with


def compare(arms: list[Arm], **changes: object) -> Analysis:
    request = ComparisonCreate(arms=[ArmSpec(name=a.name, model=a.model) for a in arms]).model_copy(
        update=changes
    )
    return analyse(request, arms)


def passage(text: str) -> list[dict[str, Any]]:
    return [{"id": "p1", "title": "a page", "text": text}]


def findings(arms: list[Arm]) -> dict[str, Finding]:
    return {finding.kind: finding for finding in compare(arms).findings}


def test_items_in_the_index_spoil_the_verdict_and_are_named() -> None:
    base = arm_with("base", [False] * 60)
    told = [answer(i, True, sources=passage("page")) for i in range(60)]
    told[7] = answer(7, True, sources=passage("FAQ: Which call gives\nthe value number 7?\nlist(f(7))"))
    outcome = compare([base, arm("rag", told)])
    assert outcome.leaked == ["code_generation-7"]
    assert outcome.verdict.recommended is None
    assert outcome.verdict.confidence == "cannot_tell"
    assert outcome.verdict.reason.startswith("No verdict: 1 item of 60 stands word for word in the passages")
    assert "code_generation-7" in outcome.verdict.reason


@pytest.mark.parametrize(
    "text",
    ["Which call gives the value number 77?", "Which call gives the value", "what the value number 7 is"],
)
def test_a_page_that_only_resembles_an_item_is_no_leak(text: str) -> None:
    told = [answer(i, True, sources=passage(text)) for i in range(20)]
    assert compare([arm_with("base", [False] * 20), arm("rag", told)]).leaked == []


def test_not_found_and_not_used_are_told_apart() -> None:
    rag = [
        answer(0, False, sources=passage("nothing of use")),
        answer(1, False, sources=passage("function_1 is explained here")),
        *(answer(i, True, sources=passage("x")) for i in range(2, 40)),
    ]
    found = findings([arm_with("base", [False] * 40), arm("rag", rag)])
    assert found["not_found"].items == ["code_generation-0"]
    assert found["not_used"].items == ["code_generation-1"]
    assert (found["not_found"].count, found["not_found"].of) == (1, 2)


def test_one_answer_of_all_arms_that_counts_as_wrong_makes_the_reference_suspect() -> None:
    same = [answer(i, i > 2, output="list(g(1))" if i < 2 else "x") for i in range(40)]
    found = findings([arm("base", same), arm("tuned", same)])
    assert found["suspect_reference"].items == ["code_generation-0", "code_generation-1", "code_generation-2"]


def test_what_was_unlearnt_and_what_nobody_solves_is_said() -> None:
    base = arm_with("base", [i < 10 for i in range(100)], per_group=2)
    tuned = arm_with("tuned", [4 <= i < 90 for i in range(100)], per_group=2)
    found = findings([base, tuned])
    assert (found["lost"].count, found["lost"].of) == (4, 10)
    assert found["unsolved"].count == 10
    assert "library.function_" in found["function"].title


def test_proposals_name_functions_and_never_repeat_an_item() -> None:
    outcome = compare([arm_with("base", [False] * 50), arm_with("tuned", [i < 40 for i in range(50)])])
    assert len(outcome.proposals) == 10
    asked = {item.question for item in outcome.items}
    assert all(row["question"] not in asked and row["answer"] == "" for row in outcome.proposals)
    assert outcome.proposals[0]["function"] == "library.function_40"
    assert "`library.function_40`" in outcome.proposals[0]["question"]


def test_all_right_needs_no_next_step() -> None:
    outcome = compare([arm_with("base", [True] * 40), arm_with("rag", [True] * 40)])
    assert (outcome.findings, outcome.proposals) == ([], [])


def test_the_recommended_arm_is_deployed_by_its_models_name() -> None:
    outcome = compare(
        [arm_with("base", [i < 5 for i in range(200)]), arm_with("tuned+rag", [i < 150 for i in range(200)])]
    )
    plan = deployment(outcome.arms, outcome.verdict, outcome.kinds)
    assert plan is not None
    assert plan.steps[0] == 'mt models promote "rag:library@model_01"'
    assert plan.watch["pass_rate_below"] == outcome.arms[1].ci_low


def test_without_a_verdict_the_simplest_arm_is_the_one_to_start_with() -> None:
    outcome = compare(
        [arm_with("base", [i < 10 for i in range(30)]), arm_with("rag", [5 <= i < 16 for i in range(30)])]
    )
    plan = deployment(outcome.arms, outcome.verdict, outcome.kinds)
    assert plan is not None
    assert plan.arm == "base"
    assert any("more items" in reason for reason in plan.look_again)


def test_two_runs_are_compared_arm_by_arm_and_answer_by_answer() -> None:
    first, second = demo_report("winner"), demo_report("open")
    told = changes(first.report, second.report, first.items, second.items)
    assert told[0].startswith("Recommended is rag; it was tuned+rag. rag answers 51 of 220")
    assert any(line.startswith("tuned+rag: ") and "moved" in line for line in told)
    same = changes(first.report, first.report, first.items, first.items)
    assert same[0] == "Recommended is tuned+rag, as before."
    assert all("as before" in line for line in same)
