"""Dimensions: each with a definition and an interval, what the rules of quality see, and what was not measured."""

from __future__ import annotations

import pytest

from libs.common.statistics.intervals import percentile_interval
from model_training.contracts.comparisons import ArmSpec, ComparisonCreate, Dimension, Prices
from model_training.contracts.evaluations import ItemResult
from services.comparator.domain.arms import Arm, pair
from services.comparator.domain.dimensions import completeness, dimensions, is_clear
from tests.unit.comparator.made_up import MODELS, answer, arm

REQUEST = ComparisonCreate(
    arms=[ArmSpec(name=name, model=MODELS[name]) for name in ("base", "rag")],
    prices=Prices(machine_hour_usd=3600.0),
)


def answers(right: int, n: int = 40, **changes: object) -> list[ItemResult]:
    return [
        answer(i, i < right, **{"output": f"chunked {i}", "reference": f"chunked {i}", **changes}) for i in range(n)
    ]  # fmt: skip


def found(*arms: Arm) -> dict[str, Dimension]:
    return {one.name: one for one in dimensions(pair(arms), REQUEST)}


def test_every_dimension_has_a_definition_and_every_figure_lies_in_its_interval() -> None:
    lines = found(arm("base", answers(8)), arm("rag", answers(30, scores={"f1": 0.5})))
    assert {one.dimension for one in lines.values()} == {
        "accuracy", "performance", "quality", "consistency", "cost_effectiveness",
    }  # fmt: skip
    for one in lines.values():
        assert one.definition
        assert [value.arm for value in one.arms] == ["base", "rag"]
        for value in one.arms if one.n else []:
            assert value.value is not None
            assert value.low is not None
            assert value.high is not None
            assert value.low <= value.value <= value.high


def test_figures_are_those_of_the_answers() -> None:
    lines = found(arm("base", answers(8)), arm("rag", answers(30)))
    assert [value.value for value in lines["right answers"].arms] == [0.2, 0.75]
    per_thousand = [value.value for value in lines["1,000 questions"].arms]
    assert per_thousand == pytest.approx([1000 * 60 / 40] * 2), "60 s of a machine at a dollar a second"
    assert lines["1,000 right answers"].arms[1].value == pytest.approx(1500 / 0.75)
    tokens = sum(item.completion_tokens for item in answers(8))
    assert lines["throughput"].arms[0].value == pytest.approx(tokens / 60)


def test_an_arm_that_is_never_right_has_no_price_of_a_right_answer() -> None:
    never = found(arm("base", answers(0)), arm("rag", answers(30)))["1,000 right answers"].arms[0]
    assert never.value is None
    assert never.high is None
    assert never.low is not None


@pytest.mark.parametrize(
    ("text", "tokens", "clear"),
    [
        ("chunked(data, 3)", 6, True),
        ("", 0, False),
        ("  \n", 1, False),
        ("chunked(data, 3)", 64, False),
        ("the same line\n" * 3, 9, False),
        ("use it and then again " * 4, 20, False),
        ("a\nb\nc\na\nb\nc\na", 14, True),
    ],
)
def test_clear_is_what_can_be_read_as_it_stands(text: str, tokens: int, clear: bool) -> None:
    assert is_clear(answer(0, True, output=text, completion_tokens=tokens), 64) is clear


def test_completeness_is_the_share_of_the_reference_s_words() -> None:
    assert completeness(answer(0, True, reference="chunked(data, 3)", output="Use CHUNKED with 3.")) == 2 / 3
    assert completeness(answer(0, True, reference="()", output="")) == 1.0


def test_what_is_right_and_cut_off_is_not_useful() -> None:
    cut = arm("rag", answers(40, completion_tokens=64))
    lines = found(arm("base", answers(40)), cut)
    assert [value.value for value in lines["usefulness"].arms] == [1.0, 0.0]


def test_consistency_is_agreement_between_wordings_and_is_said_to_be_missing() -> None:
    def asked(same: bool) -> list[ItemResult]:
        return [
            answer(i, True, suite="consistency", of=f"q{i // 5}", group=f"f{i // 5}", variant=f"w{i % 5}",
                   output="one" if same or i % 5 else "other")
            for i in range(50)
        ]  # fmt: skip

    line = found(arm("base", asked(True)), arm("rag", asked(False)))["agreement"]
    assert [value.value for value in line.arms] == pytest.approx([1.0, 0.6])
    missing = found(arm("base", answers(8)), arm("rag", answers(9)))["agreement"]
    assert (missing.n, missing.arms[0].value) == (0, None)
    assert "add the suite consistency" in missing.definition


def test_percentiles_lie_between_two_of_the_values() -> None:
    """Conover: with 100 values the ranks for a median are 40 and 60."""
    interval = percentile_interval(list(range(100)), 0.5)
    assert (interval.low, interval.high) == (40, 60)
    assert percentile_interval([3.0], 0.95) == percentile_interval([3.0, 3.0], 0.5)
    with pytest.raises(ValueError, match="needs values"):
        percentile_interval([], 0.5)
