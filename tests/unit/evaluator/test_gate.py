"""The gate: falls are found, noise passes, and too few items are said to be too few."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from libs.common.errors import InvalidInput
from model_training.contracts.evaluations_gate import GateRequest
from services.evaluator.gate import judge

WANTED = GateRequest(baseline="eval_before")


def rows(correct: list[bool], suite: str = "s", groups: list[str] | None = None) -> list[dict[str, Any]]:
    return [
        {"item_id": f"{suite}{n}", "suite": suite, "group": groups[n] if groups else str(n), "correct": right}
        for n, right in enumerate(correct)
    ]


def test_an_evaluation_against_itself_passes() -> None:
    same = rows([n % 3 == 0 for n in range(400)])
    reply = judge(same, same, WANTED, "eval_new")
    assert (reply.passed, reply.verdict) == (True, "no_fall")
    (suite,) = reply.suites
    assert (suite.difference, suite.p, suite.wins, suite.losses) == (0.0, 1.0, [], [])


def test_a_real_fall_closes_the_gate_and_names_the_items() -> None:
    before, after = [True] * 164, [n >= 12 for n in range(164)]
    reply = judge(rows(after), rows(before), WANTED, "eval_new")
    assert (reply.passed, reply.verdict) == (False, "fell")
    (suite,) = reply.suites
    assert suite.losses == [f"s{n}" for n in range(12)]
    assert suite.high < 0
    assert "fell by 7.3%" in suite.reason


def test_a_fall_that_may_be_noise_passes_and_says_what_would_show_it() -> None:
    before = [n < 20 for n in range(40)]
    after = [2 <= n < 21 for n in range(40)]
    (suite,) = judge(rows(after), rows(before), WANTED, "eval_new").suites
    assert suite.verdict == "cannot_tell"
    assert "may be noise" in suite.reason
    assert "items would show a fall of 2.0%" in suite.reason
    assert suite.smallest_visible > 0.05


def test_items_that_go_together_count_once() -> None:
    """Six lost items of one function are one event, six of six functions are six."""
    before, after = [True] * 60, [n >= 6 for n in range(60)]
    apart = judge(rows(after), rows(before), WANTED, "eval_new")
    groups = [str(n // 6) for n in range(60)]
    together = judge(rows(after, groups=groups), rows(before, groups=groups), WANTED, "eval_new")
    assert (apart.verdict, together.verdict) == ("fell", "cannot_tell")


def test_several_suites_share_the_chance_of_a_false_alarm() -> None:
    before, after = [True] * 60, [n >= 6 for n in range(60)]
    others = [row for k in range(4) for row in rows([True] * 60, f"t{k}")]
    reply = judge(rows(after) + others, rows(before) + others, WANTED, "eval_new")
    assert reply.suites[0].p == pytest.approx(5 * 2 / 2**6)
    assert reply.passed


def test_only_shared_items_are_compared() -> None:
    reply = judge(rows([True] * 5), rows([True] * 3 + [False] * 4)[1:], WANTED, "eval_new")
    (suite,) = reply.suites
    assert (suite.n, suite.only_new, suite.only_baseline) == (4, 1, 2)
    with pytest.raises(InvalidInput, match="share no item"):
        judge(rows([True]), rows([True], "other"), WANTED, "eval_new")


def test_equal_models_rarely_close_the_gate() -> None:
    """A/A: two runs of one model whose answers vary. At most 5% false alarms; over 300 runs the error is 1.3 points."""
    draw = np.random.default_rng(5)
    closed = 0
    for _ in range(300):
        chance = draw.beta(0.5, 0.5, 100)
        before, after = (draw.random((2, 100)) < chance).tolist()
        closed += not judge(rows(after), rows(before), WANTED, "eval_new").passed
    assert closed / 300 <= 0.05 + 0.013
