"""What arms cost and are worth: prices, profiles and their limits, kinds of question, the arms that nothing beats."""

from __future__ import annotations

import pytest

from model_training.contracts.comparisons import ArmSpec, ComparisonCreate, Prices, Profile
from model_training.contracts.indexes import Source
from services.comparator.adapters.profile_files import shipped_profiles
from services.comparator.domain.analysis import Analysis, analyse
from services.comparator.domain.arms import Arm, pair
from services.comparator.domain.economics import Setup, answer_costs
from services.comparator.domain.kinds import by_kind
from services.comparator.domain.profiles import pareto
from tests.unit.comparator.made_up import answer, arm, arm_with, arms_with_rates


def compare(arms: list[Arm], setup: Setup | None = None, **changes: object) -> Analysis:
    request = ComparisonCreate(arms=[ArmSpec(name=a.name, model=a.model) for a in arms]).model_copy(
        update=changes
    )
    return analyse(request, arms, setup=setup)


def use(**values: object) -> Profile:
    quiet = {"right_answer_usd": 1, "wrong_answer_usd": 0, "waiting_hour_usd": 0, "changes_per_month": 0}
    return Profile.model_validate({"name": "own", **quiet, **values})


def test_the_costs_of_the_answers_add_up_to_the_evaluations_time_and_tokens() -> None:
    one = arm_with("base", [True] * 30)
    prices = Prices(machine_hour_usd=3600, million_prompt_tokens_usd=1e4, million_completion_tokens_usd=1e5)
    costs = answer_costs(one, pair([one]), prices)
    assert costs.sum() == pytest.approx(60 + 30 * (100 * 0.01 + 20 * 0.1))
    assert costs[9] > costs[0], "a slower answer is a dearer one"


def test_training_and_index_are_paid_by_the_arms_that_need_them() -> None:
    arms = arms_with_rates({"base": 0.2, "rag": 0.3, "tuned": 0.4, "tuned+rag": 0.5}, 60)
    outcome = compare(arms, Setup(3600.0, {"library": 360.0}))
    assert [a.fixed_cost_usd for a in outcome.arms] == pytest.approx([0, 0.01, 0.10, 0.11])


def test_an_arm_without_a_right_answer_has_no_cost_per_right_one() -> None:
    outcome = compare([arm_with("base", [False] * 40), arm_with("rag", [True, False] * 20)])
    assert outcome.arms[0].cost_per_correct_usd is None
    assert outcome.arms[1].cost_per_correct_usd == pytest.approx(outcome.arms[1].cost_usd / 20)


def test_a_use_chooses_the_arm_that_is_worth_most_there() -> None:
    arms = [arm_with("base", [i < 100 for i in range(200)]), arm_with("tuned", [i < 180 for i in range(200)])]
    setup = Setup(training_s=3600.0 * 1000)  # 100 dollars
    often = compare(arms, setup, profiles=[use(changes_per_month=100, questions_per_month=100_000)]).profiles[
        0
    ]
    seldom = compare(arms, setup, profiles=[use(changes_per_month=30, questions_per_month=1000)]).profiles[0]
    assert (often.recommended, seldom.recommended) == ("tuned", "base")
    assert often.utility_usd["tuned"] == pytest.approx(1000 * (0.9 - 0.1), rel=0.01)
    assert often.stability is not None
    assert often.stability > 0.9
    assert any("cost of renewal" in flip and "base draws level" in flip for flip in often.flips)


def test_where_the_lead_is_luck_a_use_chooses_nothing() -> None:
    arms = [
        arm_with("base", [i % 2 == 0 for i in range(40)]),
        arm_with("tuned", [i % 2 == 1 for i in range(38)] + [True, True]),
    ]
    [found] = compare(arms, profiles=[use()]).profiles
    assert found.recommended is None
    assert found.words.startswith("Cannot tell yet")


def test_an_arm_that_is_too_slow_is_no_choice() -> None:
    slow = arm("tuned", [answer(i, True, latency_s=9.0) for i in range(40)])
    arms = [arm_with("base", [i < 10 for i in range(40)]), slow]
    [found] = compare(arms, profiles=[use(max_latency_p95_s=2)]).profiles
    assert found.recommended == "base"
    assert found.excluded == {"tuned": "tuned takes 9.0 s at the 95th percentile, more than 2 s"}
    [none] = compare(arms, profiles=[use(max_latency_p95_s=0.1)]).profiles
    assert none.recommended is None
    assert none.words.startswith("No arm is fast enough")


def test_the_shipped_uses_can_be_read() -> None:
    assert [profile.name for profile in shipped_profiles()] == [
        "batch_codegen", "docs_qa", "ide_assistant", "on_prem_small_gpu",
    ]  # fmt: skip


def test_a_kind_that_favours_another_arm_is_named_and_few_items_are_not() -> None:
    def answers(good_at: str) -> list:
        rows = [("write_call", 60), ("which_call", 60), ("what_does", 5)]
        forms = [form for form, count in rows for _ in range(count)]
        return [
            answer(i, form == good_at, form=form, source=Source(package="toolz"))
            for i, form in enumerate(forms)
        ]

    paired = pair([arm("base", answers("write_call")), arm("tuned", answers("which_call"))])
    found = by_kind(paired, alpha=0.05, smallest_useful=0.05)
    assert [(kind.name, kind.favours) for kind in found] == [("write_call", None), ("which_call", "tuned")]
    assert found[1].rates == {"base": 0.0, "tuned": 1.0}
    assert (
        by_kind(paired.where(lambda item: item.form == "write_call"), alpha=0.05, smallest_useful=0.05) == []
    )


def test_an_arm_that_is_beaten_everywhere_is_not_on_the_front() -> None:
    outcome = compare(
        [
            arm("base", [answer(i, i < 20, latency_s=0.1) for i in range(60)], machine_s=10.0),
            arm("rag", [answer(i, i < 10, latency_s=0.5) for i in range(60)], machine_s=30.0),
            arm("tuned", [answer(i, i < 40, latency_s=0.2) for i in range(60)], machine_s=20.0),
        ]
    )
    assert pareto(outcome.arms) == ["base", "tuned"]
