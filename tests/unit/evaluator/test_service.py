"""The loop over items: stopping, refusals, and sums. The model and the grader are fakes; their real parts have own tests."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from libs.common.errors import InvalidInput, JobFailure, JobStopped
from model_training.contracts.evaluations import EvaluationItem, PromptSpec, TextCheck
from services.evaluator.domain import Answer, Grade
from services.evaluator.prompts import ModelTraits, PromptBuilder, Question
from services.evaluator.service import Evaluation, summarise

ITEMS = [
    EvaluationItem(
        id=f"i{n}", suite="qa", form="f", question=f"q{n}", answer="a", group=f"g{n}", check=TextCheck()
    )
    for n in range(40)
]
PROMPTS = PromptBuilder(PromptSpec(), ModelTraits("gemma-3-270m", is_tuned=True, is_retrieval=False), [])


class RecordingReport:
    """Keeps what is reported; asks to stop after `stop_after` items."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.items: list[dict[str, Any]] = []
        self.steps: list[tuple[int, int, float | None]] = []
        self.events: list[str] = []
        self._stop_after = stop_after

    def output(self, name: str, data: dict[str, Any]) -> None:
        self.items.append(data)

    def progress(self, step: int, total: int, message: str = "", eta_s: float | None = None) -> None:
        self.steps.append((step, total, eta_s))

    def event(self, message: str, *, level: Any = "info") -> None:
        self.events.append(message)

    def stop_requested(self) -> str | None:
        return "pause" if self._stop_after is not None and len(self.items) >= self._stop_after else None


class FakeGrader:
    """Right on even items; cannot grade `broken`."""

    def __init__(self, broken: str = "") -> None:
        self._broken = broken

    def grade(self, item: EvaluationItem, output: str) -> Grade:
        if item.id == self._broken:
            raise InvalidInput("its test cannot be run")
        return Grade("passed", "", 1.0) if int(item.id[1:]) % 2 == 0 else Grade("wrong", "")


def answer(question: Question) -> Answer:
    return Answer("text", question.text, 0.1, 10, 2)


def run(report: RecordingReport, done: set[str] = frozenset(), **parts: Any) -> Any:  # type: ignore[assignment]
    grader: Any = parts.get("grader", FakeGrader())
    return Evaluation(parts.get("ask", answer), grader, PROMPTS, report).run(ITEMS, done)


def test_every_item_is_reported_once_with_its_position() -> None:
    report = RecordingReport()
    totals = run(report)
    assert sorted(data["position"] for data in report.items) == list(range(40))
    assert all(ITEMS[data["position"]].id == data["result"]["item_id"] for data in report.items)
    assert (totals.asked, totals.correct, totals.prompt_tokens, totals.completion_tokens) == (40, 20, 400, 80)
    assert report.steps[0] == (0, 40, None)
    assert report.steps[-1][:2] == (40, 40)
    assert report.steps[-1][2] == pytest.approx(0)


def test_sixteen_are_asked_at_once() -> None:
    gate = threading.Barrier(16, timeout=60)
    seen = threading.Semaphore(16)

    def ask(question: Question) -> Answer:
        if seen.acquire(blocking=False):
            gate.wait()  # only passes when sixteen are here together
        return answer(question)

    assert run(RecordingReport(), ask=ask).asked == 40


def test_done_items_are_left_out() -> None:
    report = RecordingReport()
    totals = run(report, {f"i{n}" for n in range(30)})
    assert totals.asked == 10
    assert report.steps[0][0] == 30
    assert {data["position"] for data in report.items} == set(range(30, 40))


def test_a_stop_keeps_what_was_reported() -> None:
    report = RecordingReport(stop_after=3)
    with pytest.raises(JobStopped):
        run(report)
    assert len(report.items) == 3


def test_a_model_that_is_gone_ends_the_evaluation() -> None:
    def ask(question: Question) -> Answer:
        raise JobFailure("not_found", "no such model")

    with pytest.raises(JobFailure, match="no such model"):
        run(RecordingReport(), ask=ask)


def test_a_broken_item_does_not_end_it() -> None:
    report = RecordingReport()
    assert run(report, grader=FakeGrader(broken="i4")).asked == 40
    broken = next(data["result"] for data in report.items if data["result"]["item_id"] == "i4")
    assert broken["status"] == "error"
    assert "cannot be graded" in broken["reason"]
    assert report.events == ["Not graded: its test cannot be run"]


def test_summary() -> None:
    report = RecordingReport()
    run(report)
    (suite,) = summarise([data["result"] for data in report.items])
    assert (suite.n, suite.correct, suite.pass_rate) == (40, 20, 0.5)
    # Wilson at 95% for 20 of 40, from the closed form.
    assert suite.ci_low == pytest.approx(0.3520, abs=1e-4)
    assert suite.ci_high == pytest.approx(0.6480, abs=1e-4)
    assert suite.scores["score"] == 0.5
    assert suite.statuses == {"passed": 20, "wrong": 20}


def row(name: str, *, correct: bool = False, **more: Any) -> dict[str, Any]:
    plain = {"item_id": name, "suite": "s", "correct": correct, "group": name, "scores": {}, "reason": ""}
    return {**plain, "score": float(correct), "status": "passed" if correct else "wrong", **more}


def test_items_of_one_group_widen_the_interval() -> None:
    (suite,) = summarise([row(str(n), correct=n < 20, group=str(n // 10)) for n in range(40)])
    assert suite.ci_low < 0.30
    assert suite.ci_high > 0.70


def test_unscored_answers_count_as_zero() -> None:
    rows = [row("a", correct=True, scores={"f1": 1.0}), row("b", status="no_answer")]
    assert summarise(rows)[0].scores == {"score": 0.5, "f1": 0.5}


def test_several_answers_to_a_question_give_pass_at_k() -> None:
    """Question a: 2 of 4 right, question b: none; the answers of a question are not independent."""
    rows = [row(f"{of}#{n}", correct=of == "a" and n < 2, of=of, group=of) for of in "ab" for n in range(4)]
    (suite,) = summarise(rows)
    assert suite.scores["pass@1"] == pytest.approx(0.25)
    assert suite.scores["pass@2"] == pytest.approx((5 / 6) / 2)
    assert suite.scores["pass^2"] == pytest.approx((1 / 6) / 2)
    assert suite.scores["pass@4"] == 0.5
    assert suite.intervals["pass@1"].low <= 0.25 <= suite.intervals["pass@1"].high
    assert suite.ci_high - suite.ci_low > 0.6


def test_each_sample_has_its_own_seed_and_id() -> None:
    report = RecordingReport()
    asked: list[Question] = []

    def ask(question: Question) -> Answer:
        asked.append(question)
        return Answer("1", "1", 0.0, 1, 1)

    grader: Any = FakeGrader()
    evaluation = Evaluation(ask, grader, PROMPTS, report, samples=3, seed=7)
    evaluation.run([ITEMS[0]], done={f"{ITEMS[0].id}#1"})
    assert sorted(question.seed for question in asked) == [7, 9]
    ids = sorted(data["result"]["item_id"] for data in report.items)
    assert ids == [ITEMS[0].id, f"{ITEMS[0].id}#2"]
