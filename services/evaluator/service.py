"""The use cases: run an evaluation's items through a model and the grader, and sum up what is stored of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Protocol

from libs.common.errors import InvalidInput, JobStopped
from libs.common.statistics.intervals import clustered_wilson_interval
from model_training.contracts.evaluations import EvaluationItem, ItemResult, SuiteSummary
from services.evaluator.domain import Answer, Grade, NotAnswered
from services.evaluator.grading import Grader
from services.evaluator.prompts import PromptBuilder, Question

Ask = Callable[[Question], Answer]
CONCURRENCY = 16


class Reporter(Protocol):
    """The part of `ChildContext` that an evaluation speaks to."""

    def output(self, name: str, data: dict[str, Any]) -> None: ...
    def progress(self, step: int, total: int, message: str = "", eta_s: float | None = None) -> None: ...
    def event(self, message: str, *, level: Any = "info") -> None: ...
    def stop_requested(self) -> Any: ...


@dataclass(frozen=True)
class Totals:
    """What this attempt did."""

    asked: int
    correct: int
    prompt_tokens: int
    completion_tokens: int
    duration_s: float


class Evaluation:
    """One evaluation: items that are done already are left out, the others are asked several at a time."""

    def __init__(self, ask: Ask, grader: Grader, prompts: PromptBuilder, report: Reporter) -> None:
        self._ask, self._grader, self._prompts, self._report = ask, grader, prompts, report

    def run(self, items: Sequence[EvaluationItem], done: set[str]) -> Totals:
        """Ask and grade, in the items' order as far as threads allow; each result is reported as it comes.

        Raises JobStopped when asked to stop; what was reported until then stays.
        """
        started = time.monotonic()
        results: list[ItemResult] = []
        waiting = [(position, item) for position, item in enumerate(items) if item.id not in done]
        self._progress(results, len(done), len(items), started)
        with _pool() as pool:
            tasks = {pool.submit(self._one, item): position for position, item in waiting}
            for task in as_completed(tasks):
                result = task.result()
                results.append(result)
                self._report.output("item", {"position": tasks[task], "result": result.model_dump()})
                self._progress(results, len(done), len(items), started)
                if self._report.stop_requested() is not None:
                    raise JobStopped
        return Totals(
            asked=len(results),
            correct=sum(result.correct for result in results),
            prompt_tokens=sum(result.prompt_tokens for result in results),
            completion_tokens=sum(result.completion_tokens for result in results),
            duration_s=time.monotonic() - started,
        )

    def _one(self, item: EvaluationItem) -> ItemResult:
        question = self._prompts.build(item)
        try:
            answer = self._ask(question)
            grade = self._grade(item, answer)
        except NotAnswered as refusal:
            answer = Answer("", question.text, 0.0, 0, 0)
            grade = Grade("error", f"the model did not answer: {refusal}")
        return ItemResult(
            item_id=item.id,
            suite=item.suite,
            form=item.form,
            group=item.group,
            question=item.question,
            prompt=answer.prompt,
            output=answer.text,
            extracted=grade.extracted,
            reference=item.answer,
            correct=grade.correct,
            score=grade.score,
            scores=grade.scores,
            status=grade.status,
            reason=grade.reason,
            latency_s=answer.latency_s,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            sources=list(answer.sources),
            source=item.source,
        )

    def _grade(self, item: EvaluationItem, answer: Answer) -> Grade:
        try:
            grade = self._grader.grade(item, answer.text)
        except (
            InvalidInput
        ) as fault:  # the item is at fault, not the answer; the others are still worth grading
            self._report.event(f"Not graded: {fault.detail}", level="warn")
            return Grade("error", f"the item cannot be graded: {fault.detail}")
        prefix = "extraction failed: " if grade.extraction_failed and grade.status != "no_answer" else ""
        return replace(grade, reason=prefix + grade.reason)

    def _progress(self, results: Sequence[ItemResult], done: int, total: int, started: float) -> None:
        fresh = len(results)
        eta_s = (time.monotonic() - started) / fresh * (total - done - fresh) if fresh else None
        right = sum(result.correct for result in results)
        self._report.progress(done + fresh, total, f"{done + fresh} of {total} items, {right} right", eta_s)


@contextmanager
def _pool() -> Generator[ThreadPoolExecutor]:
    """A thread pool that drops what has not begun when the block ends early."""
    pool = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="ask")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def grade_all(grader: Grader, outputs: Sequence[tuple[EvaluationItem, str]]) -> list[Grade]:
    """Grade outputs, several at a time. Raises InvalidInput where an item cannot be graded."""
    with _pool() as pool:
        tasks = [pool.submit(grader.grade, item, output) for item, output in outputs]
        return [task.result() for task in tasks]


def summarise(results: Sequence[dict[str, Any]]) -> list[SuiteSummary]:
    """One summary a suite, in the order of their first item. `results` are ItemResults as dictionaries.

    The interval is Wilson's at 95%, widened where items share a group (a function) and so are not independent.
    """
    suites: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        suites.setdefault(result["suite"], []).append(result)
    return [_summary(suite, rows) for suite, rows in suites.items()]


def _summary(suite: str, rows: Sequence[dict[str, Any]]) -> SuiteSummary:
    correct = [bool(row["correct"]) for row in rows]
    interval = clustered_wilson_interval(correct, [row["group"] for row in rows])
    names = sorted({name for row in rows for name in row["scores"]})
    # An answer that was not scored (an empty one) counts as zero, or silence would raise the mean.
    scores = {name: fmean(row["scores"].get(name, 0.0) for row in rows) for name in names}
    return SuiteSummary(
        suite=suite,
        n=len(rows),
        correct=sum(correct),
        pass_rate=sum(correct) / len(rows),
        ci_low=interval.low,
        ci_high=interval.high,
        scores={"score": fmean(row["score"] for row in rows), **scores},
        statuses=dict(Counter(row["status"] for row in rows).most_common()),
    )
