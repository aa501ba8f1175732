"""Golden scenarios: what the comparator recommends when the answer is clear, open, out of reach, or trivial."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from model_training.contracts.comparisons import ArmSpec, ComparisonCreate
from services.comparator.domain.analysis import Analysis, analyse
from services.comparator.domain.arms import Arm
from tests.unit.comparator.made_up import arm_with


def compare(arms: Sequence[Arm], *, available: int | None = 0, **changes: object) -> Analysis:
    request = ComparisonCreate(arms=[ArmSpec(name=a.name, model=a.model) for a in arms]).model_copy(
        update=changes
    )
    return analyse(request, arms, items_available=available)


def right(count: int, n: int, *, start: int = 0) -> list[bool]:
    """`count` right answers in a row from `start` on, wrapping around."""
    chosen = {(start + i) % n for i in range(count)}
    return [i in chosen for i in range(n)]


def test_clear_winner_is_recommended_with_high_confidence() -> None:
    outcome = compare(
        [
            arm_with("base", right(10, 400)),
            arm_with("rag", right(60, 400)),
            arm_with("tuned", right(120, 400)),
            arm_with("tuned+rag", right(220, 400)),
        ]
    )
    assert outcome.verdict.recommended == "tuned+rag"
    assert outcome.verdict.confidence == "high"
    assert "220 of 400 (55.0%)" in outcome.verdict.reason
    assert "p < 0.001" in outcome.verdict.reason
    assert outcome.verdict.items_needed is None


def test_costlier_arm_that_adds_nothing_loses_to_the_simpler_one() -> None:
    same = right(300, 2000)
    outcome = compare(
        [
            arm_with("base", right(50, 2000)),
            arm_with("rag", same),
            arm_with("tuned", right(302, 2000)),
        ]
    )
    assert outcome.verdict.recommended == "rag"
    assert outcome.verdict.confidence == "high"
    assert "tuned takes more effort and is not better by 5.0 points or more" in outcome.verdict.reason


def test_simpler_arm_is_preferred_while_the_costlier_is_not_distinguishable() -> None:
    outcome = compare(
        [
            arm_with("base", right(5, 150)),
            arm_with("rag", right(45, 150)),
            arm_with("tuned", right(48, 150, start=20)),
        ],
        available=40,
    )
    assert outcome.verdict.recommended == "rag"
    assert outcome.verdict.confidence == "moderate"
    assert outcome.verdict.items_needed is not None
    assert outcome.verdict.items_needed > 40
    assert "40 are available" in outcome.verdict.reason
    assert any("do not hold that many" in note for note in outcome.verdict.notes)


def test_nothing_distinguishable_says_how_many_items_would_tell() -> None:
    outcome = compare(
        [arm_with("base", right(30, 100)), arm_with("rag", right(33, 100, start=25))], available=250
    )
    assert outcome.verdict.recommended is None
    assert outcome.verdict.confidence == "cannot_tell"
    assert outcome.verdict.reason.startswith("Cannot tell yet: base answers 30 of 100 (30.0%) correctly")
    assert (
        f"about {outcome.verdict.items_needed:,} more items are needed, 250 are available"
        in outcome.verdict.reason
    )


def test_floor_says_that_the_model_is_too_small() -> None:
    outcome = compare([arm_with("base", right(0, 99)), arm_with("rag", right(1, 99))])
    assert outcome.verdict.recommended is None
    assert outcome.verdict.items_needed is None
    assert "more about the model's size than about the method" in outcome.verdict.reason
    assert any("base at 0 of 99" in note for note in outcome.verdict.notes)


def test_one_arm_at_the_floor_is_said_beside_the_verdict() -> None:
    outcome = compare([arm_with("base", right(0, 300)), arm_with("rag", right(90, 300))])
    assert outcome.verdict.recommended == "rag"
    assert any(
        note.startswith("Floor in code_generation: base at 0 of 300") for note in outcome.verdict.notes
    )


def test_ceiling_is_said() -> None:
    outcome = compare([arm_with("base", right(200, 200)), arm_with("rag", right(200, 200))])
    assert outcome.verdict.recommended == "base"
    assert any(
        note.startswith("Ceiling in code_generation: base at 200 of 200") for note in outcome.verdict.notes
    )


def test_tuned_worse_than_base_keeps_the_base() -> None:
    outcome = compare([arm_with("base", right(120, 300)), arm_with("tuned", right(60, 300))])
    assert outcome.verdict.recommended == "base"
    assert outcome.verdict.confidence == "high"
    assert "tuned takes more effort and does worse" in outcome.verdict.reason


def test_ten_items_do_not_carry_a_verdict() -> None:
    outcome = compare([arm_with("base", right(2, 10)), arm_with("rag", right(5, 10))])
    assert outcome.verdict.confidence == "cannot_tell"
    assert outcome.verdict.items_needed
    assert outcome.verdict.items_needed > 100
    assert "Only 10 items were asked; the intervals are wide." in outcome.verdict.notes


def test_overwhelming_difference_on_ten_items_is_not_called_high() -> None:
    outcome = compare([arm_with("base", right(0, 10)), arm_with("rag", right(10, 10))])
    assert outcome.verdict.recommended == "rag"
    assert outcome.verdict.confidence == "moderate"


def test_single_arm_gets_no_recommendation() -> None:
    outcome = compare([arm_with("base", right(30, 100))])
    assert outcome.verdict.recommended is None
    assert outcome.pairs == []
    assert "only base was measured, 30 of 100 (30.0%) correct" in outcome.verdict.reason


def test_identical_answers_on_many_items_keep_the_simplest() -> None:
    same = right(300, 1000)
    outcome = compare([arm_with("tuned", same), arm_with("base", same)])
    assert outcome.verdict.recommended == "base"
    assert outcome.pairs[0].p == 1.0
    assert outcome.pairs[0].difference == 0.0


def test_no_items_is_an_honest_answer() -> None:
    outcome = compare([arm_with("base", []), arm_with("rag", [])])
    assert outcome.verdict.confidence == "cannot_tell"
    assert "no question with a known answer was asked" in outcome.verdict.reason
    assert outcome.arms[0].n == 0


def test_a_real_but_useless_difference_does_not_move_the_verdict() -> None:
    outcome = compare([arm_with("base", right(1000, 5000)), arm_with("tuned", right(1060, 5000))])
    assert outcome.pairs[0].p_adjusted < 0.001
    assert outcome.verdict.recommended == "base"
    assert outcome.verdict.confidence == "high"


def test_proven_against_base_but_not_against_retrieval_cannot_tell_between_the_two() -> None:
    base, rag, tuned = right(20, 200), right(36, 200, start=30), right(48, 200)
    outcome = compare([arm_with("base", base), arm_with("rag", rag), arm_with("tuned", tuned)])
    assert outcome.verdict.recommended is None
    assert outcome.verdict.reason.startswith("Cannot tell yet: rag answers 36 of 200")
    assert "Known so far: tuned beats base" in outcome.verdict.reason


def test_arms_of_items_in_groups_use_the_clustered_test() -> None:
    outcome = compare(
        [arm_with("base", right(10, 90), per_group=3), arm_with("rag", right(30, 90), per_group=3)]
    )
    assert outcome.pairs[0].test.startswith("sign-flip by function (exact, 30 groups)")
    independent = compare([arm_with("base", right(10, 90)), arm_with("rag", right(30, 90))])
    assert independent.pairs[0].test == "exact McNemar"
    assert outcome.pairs[0].p > independent.pairs[0].p


@pytest.mark.parametrize("arms_reversed", [False, True])
def test_the_order_of_the_request_changes_nothing(arms_reversed: bool) -> None:
    arms = [
        arm_with("base", right(10, 300)),
        arm_with("rag", right(60, 300)),
        arm_with("tuned", right(150, 300)),
    ]
    outcome = compare(arms[::-1] if arms_reversed else arms)
    assert [arm.name for arm in outcome.arms] == ["base", "rag", "tuned"]
    assert outcome.verdict.recommended == "tuned"
