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
    gate = threading.Barrier(16, timeout=10)
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


def test_items_of_one_group_widen_the_interval() -> None:
    results = [
        {
            "suite": "s",
            "correct": n < 20,
            "group": str(n // 10),
            "scores": {},
            "score": 0.0,
            "status": "wrong",
        }
        for n in range(40)
    ]
    (suite,) = summarise(results)
    assert suite.ci_low < 0.30
    assert suite.ci_high > 0.70


def test_unscored_answers_count_as_zero() -> None:
    rows = [
        {
            "suite": "s",
            "correct": True,
            "group": "a",
            "scores": {"f1": 1.0},
            "score": 1.0,
            "status": "passed",
        },
        {"suite": "s", "correct": False, "group": "b", "scores": {}, "score": 0.0, "status": "no_answer"},
    ]
    assert summarise(rows)[0].scores == {"score": 0.5, "f1": 0.5}
