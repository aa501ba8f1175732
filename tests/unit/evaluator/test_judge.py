"""The judge: a preference for a place is no preference for an answer."""

from __future__ import annotations

from typing import Any

import pytest

from services.evaluator.judge import Judgement, judge_item, read_opinion, summarise


def row(output: str, *, correct: bool) -> dict[str, Any]:
    return {"item_id": "i", "question": "q", "reference": "r", "output": output, "correct": correct}


GOOD, BAD = row("good", correct=True), row("bad", correct=False)


def honest(prompt: str) -> str:
    return "A" if "Answer A:\ngood" in prompt else "B" if "Answer B:\ngood" in prompt else "T"


def test_an_honest_judge_is_heard_whatever_the_order() -> None:
    assert judge_item(honest, GOOD, BAD).opinion == "a"
    assert judge_item(honest, BAD, GOOD).opinion == "b"
    assert judge_item(honest, BAD, BAD).opinion == "tie"


def test_a_judge_that_prefers_a_place_gives_ties() -> None:
    found = judge_item(lambda _: "A", GOOD, BAD)
    assert (found.opinion, found.is_flip) == ("tie", True)


@pytest.mark.parametrize(
    ("text", "opinion"),
    [
        ("A", "a"),
        (" B.", "b"),
        ("T", "tie"),
        ("The better answer is B", "b"),
        ("", "tie"),
        ("neither", "tie"),
        ("**A**", "a"),
    ],
)
def test_opinions_are_read(text: str, opinion: str) -> None:
    assert read_opinion(text) == opinion


def test_the_report_says_how_far_to_trust_the_judge() -> None:
    report = summarise(
        [
            Judgement("1", "a", "a", "a"),
            Judgement("2", "b", "b", "a"),
            Judgement("3", "a", "b", "a"),
            Judgement("4", "b", "b", "tie"),
        ]
    )
    assert (report.a_better, report.b_better, report.ties) == (1, 2, 1)
    assert report.flip_rate == 0.25
    assert (report.agreement, report.agreement_items) == (0.5, 2)
    assert report.agreement_low is not None
    assert report.agreement_low < 0.5
    with pytest.raises(ValueError, match="share no item"):
        summarise([])
