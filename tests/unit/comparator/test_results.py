"""Arms and pairs as numbers: pairing, rates, scores, costs, and what refuses to be compared."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.errors import InvalidInput
from libs.common.statistics.intervals import wilson_interval
from model_training.contracts.comparisons import ArmSpec, ComparisonCreate, Prices
from services.comparator.domain.analysis import Analysis, analyse
from services.comparator.domain.arms import Arm, effort_of, pair
from services.comparator.domain.costs import cost_notes, dollars
from tests.unit.comparator.made_up import answer, arm, arm_with


def run(arms: list[Arm]) -> Analysis:
    return analyse(ComparisonCreate(arms=[ArmSpec(name=a.name, model=a.model) for a in arms]), arms)


@pytest.mark.parametrize(
    ("model", "effort"),
    [("gemma-3-270m", 0), ("rag:docs@gemma-3-270m", 1), ("model_01k", 2), ("rag:docs@model_01k", 3)],
)
def test_effort_follows_what_has_to_be_kept_up(model: str, effort: int) -> None:
    assert effort_of(model) == effort


def test_only_items_that_every_arm_answered_count() -> None:
    outcome = run([arm_with("base", [True] * 40), arm_with("rag", [True] * 30)])
    assert [result.n for result in outcome.arms] == [30, 30]
    assert "10 items did not count, because not every arm answered them." in outcome.verdict.notes


def test_different_questions_under_one_id_are_refused() -> None:
    base = arm("base", [answer(1, True)])
    other = arm("rag", [answer(1, True, question="Something else?")])
    with pytest.raises(
        InvalidInput, match="'code_generation-1' asks one thing in arm 'base' and another in arm 'rag'"
    ):
        pair([base, other])
    with pytest.raises(InvalidInput, match="no item in common"):
        pair([base, arm("rag", [answer(2, True)])])


def test_an_arm_is_summed_up() -> None:
    answers = [answer(i, i < 20) for i in range(80)]
    answers += [answer(i, False, suite="qa_accuracy", score=0.25) for i in range(20)]
    answers += [answer(i, False, suite="qa_accuracy", score=0.0, scores={}) for i in range(20, 40)]
    result = run([arm("base", answers, machine_s=360.0), arm("rag", answers)]).arms[0]
    expected = wilson_interval(20, 120)
    assert (result.n, result.correct) == (120, 20)
    assert result.ci_low <= expected.low + 1e-9  # code and text items share functions 0 to 39
    assert result.suites["code_generation"]["correct"] == 20
    assert result.suites["code_generation"]["ci_low"] == pytest.approx(wilson_interval(20, 80).low)
    assert result.suites["qa_accuracy"]["score"] == pytest.approx(0.125)
    assert result.qa_f1 == pytest.approx(0.125), "an answer without scores counts as zero"
    assert result.qa_bleu is None
    assert result.prompt_tokens == 12_000
    assert result.cost_usd == pytest.approx(0.01)
    assert result.latency_p50_s == pytest.approx(0.725)


def test_metrics_of_pairs_cover_all_items_and_each_suite() -> None:
    def one(name: str, better: float) -> Arm:
        code = [answer(i, i % 3 == 0) for i in range(30)]
        text = [answer(i, False, suite="qa_accuracy", score=better) for i in range(30)]
        return arm(name, code + text)

    outcome = run([one("base", 0.2), one("rag", 0.3), one("tuned", 0.3)])
    assert [p.metric for p in outcome.pairs[::3]] == [
        "correct", "correct:code_generation", "correct:qa_accuracy", "score:qa_accuracy",
    ]  # fmt: skip
    score = outcome.pairs[-3]
    assert score.difference == pytest.approx(0.1)
    assert score.p < 0.001
    assert score.only_a is None
    assert "bootstrap" in score.test


def test_a_suite_that_favours_another_arm_is_said() -> None:
    def one(name: str, code: int, text: int) -> Arm:
        rows = [answer(i, i < code) for i in range(400)]
        return arm(name, rows + [answer(i, i < text, suite="qa_accuracy") for i in range(100)])

    outcome = run([one("base", 10, 60), one("tuned", 250, 20)])
    assert outcome.verdict.recommended == "tuned"
    assert any(
        note.startswith("In qa_accuracy alone base is ahead of tuned") for note in outcome.verdict.notes
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 4),
)
def test_laws_of_any_comparison(rows: list[tuple[bool, bool, bool]], per_group: int) -> None:
    arms = [
        arm_with(name, [row[i] for row in rows], per_group=per_group)
        for i, name in enumerate(("base", "rag", "tuned"))
    ]
    outcome = run(arms)
    for result in outcome.arms:
        assert 0 <= result.ci_low <= result.pass_rate <= result.ci_high <= 1
    by_name = {result.name: result for result in outcome.arms}
    for one in outcome.pairs:
        assert one.difference == pytest.approx(by_name[one.b].pass_rate - by_name[one.a].pass_rate)
        assert one.ci_low - 1e-9 <= one.difference <= one.ci_high + 1e-9
        assert 0 < one.p <= one.p_adjusted <= 1
    verdict = outcome.verdict
    assert (verdict.recommended is None) == (verdict.confidence == "cannot_tell")
    assert verdict.recommended in {None, *by_name}
    assert run(arms[::-1]) == outcome


def test_costs_are_said_of_a_thousand_questions_and_of_training() -> None:
    def one(name: str, seconds: float) -> Arm:
        return arm(name, [answer(i, False) for i in range(100)], machine_s=seconds)

    results = run([one("rag", 200.0), one("tuned", 100.0)]).arms
    notes = cost_notes(results, 450.0, Prices(machine_hour_usd=0.10))
    assert notes[0].endswith("rag $0.056, tuned $0.028.")
    assert notes[1] == "Training took 450 s of machine time, $0.013, once per version."
    assert len(cost_notes(results, None, Prices())) == 1


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "$0.00"), (12.5, "$12.50"), (0.0042, "$0.0042"), (1e-6, "under $0.0001")]
)
def test_dollars(amount: float, text: str) -> None:
    assert dollars(amount) == text
