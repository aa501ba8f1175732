"""The use cases: run an evaluation's items through a model and the grader, and sum up what is stored of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Protocol

from libs.common.errors import InvalidInput, JobStopped
from libs.common.statistics.intervals import clustered_wilson_interval
from libs.common.statistics.repeats import Repeated, over_questions
from model_training.contracts.evaluations import EvaluationItem, ItemResult, ScoreInterval, SuiteSummary
from services.evaluator.domain import Answer, Grade, NotAnswered
from services.evaluator.grading import Grader
from services.evaluator.prompts import PromptBuilder, Question

Ask = Callable[[Question], Answer]
Scorers = Mapping[str, Callable[[Sequence[dict[str, Any]]], dict[str, float]]]
CONCURRENCY = 16
EXTRACTION_FAILED = "extraction failed: "


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
    """One evaluation: items that are done already are left out, the others are asked several at a time.

    With `samples` each item is asked so often, each time with another seed; the id of a repeat is `<item>#<number>`.
    """

    def __init__(
        self,
        ask: Ask,
        grader: Grader,
        prompts: PromptBuilder,
        report: Reporter,
        *,
        samples: int = 1,
        seed: int = 0,
    ) -> None:
        self._ask, self._grader, self._prompts, self._report = ask, grader, prompts, report
        self._samples, self._seed = samples, seed

    def run(self, items: Sequence[EvaluationItem], done: set[str]) -> Totals:
        """Ask and grade, in the items' order as far as threads allow; each result is reported as it comes.

        Raises JobStopped when asked to stop; what was reported until then stays.
        """
        started = time.monotonic()
        results: list[ItemResult] = []
        asked = [(item, sample) for item in items for sample in range(self._samples)]
        waiting = [(position, *one) for position, one in enumerate(asked) if sample_id(*one) not in done]
        self._progress(results, len(done), len(asked), started)
        with _pool() as pool:
            tasks = {pool.submit(self._one, item, sample): position for position, item, sample in waiting}
            for task in as_completed(tasks):
                result = task.result()
                results.append(result)
                self._report.output("item", {"position": tasks[task], "result": result.model_dump()})
                self._progress(results, len(done), len(asked), started)
                if self._report.stop_requested() is not None:
                    raise JobStopped
        return Totals(
            asked=len(results),
            correct=sum(result.correct for result in results),
            prompt_tokens=sum(result.prompt_tokens for result in results),
            completion_tokens=sum(result.completion_tokens for result in results),
            duration_s=time.monotonic() - started,
        )

    def _one(self, item: EvaluationItem, sample: int) -> ItemResult:
        question = replace(self._prompts.build(item), seed=self._seed + sample)
        try:
            answer = self._ask(question)
            grade = self._grade(item, answer)
        except NotAnswered as refusal:
            answer = Answer("", question.text, 0.0, 0, 0)
            grade = Grade("error", f"the model did not answer: {refusal}")
        return ItemResult(
            item_id=sample_id(item, sample),
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
            sample=sample,
            variant=item.variant,
            of=item.of or (item.id if self._samples > 1 else None),
            cached=answer.is_cached,
        )

    def _grade(self, item: EvaluationItem, answer: Answer) -> Grade:
        try:
            grade = self._grader.grade(item, answer.text)
        except (
            InvalidInput
        ) as fault:  # the item is at fault, not the answer; the others are still worth grading
            self._report.event(f"Not graded: {fault.detail}", level="warn")
            return Grade("error", f"the item cannot be graded: {fault.detail}")
        prefix = EXTRACTION_FAILED if grade.extraction_failed and grade.status != "no_answer" else ""
        return replace(grade, reason=prefix + grade.reason)

    def _progress(self, results: Sequence[ItemResult], done: int, total: int, started: float) -> None:
        fresh = len(results)
        eta_s = (time.monotonic() - started) / fresh * (total - done - fresh) if fresh else None
        right = sum(result.correct for result in results)
        self._report.progress(done + fresh, total, f"{done + fresh} of {total} items, {right} right", eta_s)


def sample_id(item: EvaluationItem, sample: int) -> str:
    """The id of one answer to an item: the item's own for the first."""
    return item.id if sample == 0 else f"{item.id}#{sample}"


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


def summarise(results: Sequence[dict[str, Any]], scorers: Scorers | None = None) -> list[SuiteSummary]:
    """One summary a suite, in the order of their first item. `results` are ItemResults as dictionaries.

    The interval is Wilson's at 95%, widened where items share a group (a function) and so are not independent. `scorers`
    give the scores that a suite has beyond those.
    """
    suites: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        suites.setdefault(result["suite"], []).append(result)
    return [_summary(suite, rows, (scorers or {}).get(suite)) for suite, rows in suites.items()]


def _summary(suite: str, rows: Sequence[dict[str, Any]], scorer: Any) -> SuiteSummary:
    correct = [bool(row["correct"]) for row in rows]
    interval = clustered_wilson_interval(correct, [row["group"] for row in rows])
    names = sorted({name for row in rows for name in row["scores"]})
    # An answer that was not scored (an empty one) counts as zero, or silence would raise the mean.
    scores = {name: fmean(row["scores"].get(name, 0.0) for row in rows) for name in names}
    repeated = _repeated(rows)
    return SuiteSummary(
        suite=suite,
        n=len(rows),
        correct=sum(correct),
        pass_rate=sum(correct) / len(rows),
        ci_low=interval.low,
        ci_high=interval.high,
        scores={
            "score": fmean(row["score"] for row in rows),
            **scores,
            **{name: one.value for name, one in repeated.items()},
            **(scorer(rows) if scorer is not None else {}),
        },
        intervals={
            name: ScoreInterval(low=one.interval.low, high=one.interval.high)
            for name, one in repeated.items()
        },
        statuses=dict(Counter(row["status"] for row in rows).most_common()),
        extraction_failed=sum(row["reason"].startswith(EXTRACTION_FAILED) for row in rows),
    )


def _repeated(rows: Sequence[dict[str, Any]]) -> dict[str, Repeated]:
    """pass@k and pass^k where questions were asked several times, for the ks that every question allows."""
    questions: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
    for row in rows:
        questions.setdefault((row.get("of") or row["item_id"], row.get("variant")), []).append(row)
    least = min(map(len, questions.values()))
    if least == 1:
        return {}
    counts = [(len(found), sum(bool(row["correct"]) for row in found)) for found in questions.values()]
    groups = [found[0]["group"] for found in questions.values()]
    ks = [k for k in (1, 2, 5, 10, 20, 50, 100) if k < least] + [least]
    return {
        **{f"pass@{k}": over_questions(counts, k, groups=groups) for k in ks},
        **{f"pass^{k}": over_questions(counts, k, every=True, groups=groups) for k in ks[1:]},
    }
