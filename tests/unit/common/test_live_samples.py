"""What is measured of a live answer, what is blotted out of its texts, and that nobody waits for it."""

from __future__ import annotations

import math
import statistics
import threading

import pytest
from sqlalchemy.exc import OperationalError

from libs.common.live_samples import AXES, WAITING, LiveAnswer, LiveSamples, measure, project, redact


def answer(
    text: str = "Use `chunked`.", question: str = "How do I split a list?", **changes: object
) -> LiveAnswer:
    fields: dict[str, object] = {"finish_reason": "stop", "seconds": 1.0}
    return LiveAnswer("gemma-3-270m", question, text, **(fields | changes))  # type: ignore[arg-type]


def test_numbers_say_what_they_should() -> None:
    plain = measure(answer(signals={"retrieval_best": 0.8, "retrieval_lead": math.nan}))
    assert plain["question_length"] == pytest.approx(math.log1p(22))
    assert plain["answer_seconds"] == pytest.approx(math.log(2))
    assert (plain["answer_refusal"], plain["answer_cut"], plain["question_code"]) == (0, 0, 0)
    assert plain["retrieval_best"] == 0.8
    assert "retrieval_lead" not in plain
    assert "answer_code_valid" not in plain
    assert measure(answer("I'm sorry, I cannot."))["answer_refusal"] == 1
    assert measure(answer(finish_reason="length"))["answer_cut"] == 1
    assert measure(answer("over and over again " * 20))["answer_repetition"] > 0.8
    assert measure(answer("a b c d e f g"))["answer_repetition"] == 0
    assert measure(answer("```python\nf(1)\n```"))["answer_code_valid"] == 1
    assert measure(answer("```python\nf(1\n```"))["answer_code_valid"] == 0
    assert measure(answer("", question=""))["answer_length"] == 0


@pytest.mark.parametrize("shared", [0, 10, 30, 40])
def test_questions_are_as_far_apart_as_their_words(shared: int) -> None:
    """The mean square of the distance of two texts of 40 words is that of their bags of words, for each axis."""
    squares: list[float] = []
    for number in range(300):
        words = [f"word{number}_{place}" for place in range(80 - shared)]
        one, other = project(" ".join(words[:40])), project(" ".join(words[40 - shared :]))
        squares.append(math.dist(one, other) ** 2 / AXES)
    assert statistics.mean(squares) == pytest.approx(2 * (40 - shared) / 40, rel=0.1)


def test_order_and_repeats_of_words_say_nothing() -> None:
    assert project("split a list") == project("a LIST, a list: split!")
    assert project("") == [0.0] * AXES


@pytest.mark.parametrize(
    "secret",
    ["sk-abcdefgh1234", "mt-0123456789abc", "eyJhbGci.eyJzdWIi.c2ln", "me@example.com", "4111111111111111",
     "password: hunter2", "API_KEY=abc"],
)  # fmt: skip
def test_what_looks_like_a_secret_is_blotted_out(secret: str) -> None:
    found = redact(f"before {secret} after")
    assert secret.split()[-1].split("=")[-1] not in found
    assert found.startswith("before ")
    assert found.endswith(" after")


class Away:
    """A database that does not answer."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def session(self) -> object:
        self.asked.set()
        self.go_on.wait(60)
        raise OperationalError("insert", {}, Exception("away"))


def test_nothing_is_made_of_an_answer_that_nobody_asked_to_measure() -> None:
    def never() -> LiveAnswer:
        raise AssertionError("measured")

    samples = LiveSamples(Away())  # type: ignore[arg-type]
    samples.offer(None, never)
    samples.offer("whatever", never)
    samples.close()


def test_a_database_that_hangs_or_is_away_costs_samples_and_nothing_else() -> None:
    away = Away()
    samples = LiveSamples(away)  # type: ignore[arg-type]
    samples.offer("numbers", answer)
    assert away.asked.wait(60)
    for _ in range(WAITING + 50):
        samples.offer("text", answer)  # returns although nothing is taken away
    away.go_on.set()
    samples.close()
