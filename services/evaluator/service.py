"""The use cases: run an evaluation's items through a model and the grader, and sum up what is stored of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Protocol

from libs.common.errors import InvalidInput, JobStopped
from libs.common.statistics.intervals import clustered_wilson_interval
from libs.common.statistics.repeats import Repeated, over_questions
from model_training.contracts.evaluations import EvaluationItem, ItemResult, ScoreInterval, SuiteSummary
from services.evaluator import likelihood
from services.evaluator.domain import Answer, Grade, NotAnswered
from services.evaluator.grading import Grader
from services.evaluator.portions import Portions, Tally, Whole
from services.evaluator.ports import ExtraMetric
from services.evaluator.prompts import PromptBuilder, Question

Ask = Callable[[Question], Answer]
Scorers = Mapping[str, Callable[[Sequence[dict[str, Any]]], dict[str, float]]]
CONCURRENCY = 16
LOOK_S = 0.1
"""How often a process that waits for an answer looks for news."""
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
        metrics: Sequence[ExtraMetric] = (),
    ) -> None:
        self._metrics = metrics
        self._ask, self._grader, self._prompts, self._report = ask, grader, prompts, report
        self._samples, self._seed = samples, seed

    def run(
        self, items: Sequence[EvaluationItem], done: set[str], portions: Portions | None = None
    ) -> Totals:
        """Ask and grade, in the items' order as far as threads allow; each result is reported as it comes.

        Args:
            portions: which answers this process gets, where others work on the same evaluation.

        Raises JobStopped when asked to stop; what was reported until then stays.
        """
        started = time.monotonic()
        asked = [(item, sample) for item in items for sample in range(self._samples)]
        missing = [position for position, one in enumerate(asked) if sample_id(*one) not in done]
        portions = portions or Whole(missing)
        results: list[ItemResult] = []
        progress = _Progress(self._report, len(asked), len(done), started)
        progress.tell(results, portions.tally())
        tasks: dict[Future[ItemResult], int] = {}
        with _pool() as pool:
            while tasks or not portions.is_over():
                for position in portions.take(2 * CONCURRENCY - len(tasks)):
                    tasks[pool.submit(self._one, *asked[position])] = position
                for task in _ended(tasks):
                    results.append(task.result())
                    position = tasks.pop(task)
                    self._report.output("item", {"position": position, "result": results[-1].model_dump()})
                    portions.answered(position)
                    self._check_stop()
                progress.tell(results, portions.tally())
                self._check_stop()
        return Totals(
            asked=len(results),
            correct=sum(result.correct for result in results),
            prompt_tokens=sum(result.prompt_tokens for result in results),
            completion_tokens=sum(result.completion_tokens for result in results),
            duration_s=time.monotonic() - started,
        )

    def _check_stop(self) -> None:
        if self._report.stop_requested() is not None:
            raise JobStopped

    def _one(self, item: EvaluationItem, sample: int) -> ItemResult:
        question = replace(self._prompts.build(item), seed=self._seed + sample)
        try:
            answer = self._ask(question)
            grade = self._scored(item, answer, self._grade(item, answer))
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

    def _scored(self, item: EvaluationItem, answer: Answer, grade: Grade) -> Grade:
        """The grade with the scores of further metrics; one that cannot score this answer leaves it out."""
        scores = dict(grade.scores)
        for metric in self._metrics:
            try:
                scores |= metric.score(item, answer, grade)
            except NotAnswered as fault:
                self._report.event(f"{metric.name} of {item.id}: {fault}", level="warn")
        return replace(grade, scores=scores)

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


class _Progress:
    """Says how far the whole evaluation is, when that has changed."""

    def __init__(self, report: Reporter, total: int, done: int, started: float) -> None:
        self._report, self._total, self._done, self._started = report, total, done, started
        self._said = -1

    def tell(self, results: Sequence[ItemResult], tally: Tally | None) -> None:
        """Tell what this process and, by their tally, the others have done. The rate is that of all of them together."""
        right = sum(result.correct for result in results)
        stored = self._done + len(results)
        if tally is not None and tally.stored >= stored:
            stored, right = tally.stored, tally.right
        if stored == self._said:
            return
        self._said = stored
        fresh = stored - self._done
        eta_s = (time.monotonic() - self._started) / fresh * (self._total - stored) if fresh > 0 else None
        self._report.progress(stored, self._total, f"{stored} of {self._total} items, {right} right", eta_s)


def _ended(tasks: Mapping[Future[ItemResult], int]) -> Collection[Future[ItemResult]]:
    """Those that have ended, after a moment's wait for one."""
    if not tasks:
        time.sleep(LOOK_S)
        return ()
    return wait(tasks, timeout=LOOK_S, return_when=FIRST_COMPLETED).done


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
    scores = _means(rows)
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
            **likelihood.over_items(rows),
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


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The mean of each score. An answer that was not scored (an empty one) counts as zero, or silence would raise the mean.

    A metric of somebody else's may be one whose best value is zero, so what it did not score is left out.
    """
    names = sorted({name for row in rows for name in row["scores"]} - likelihood.KEPT)
    found = {name: [row["scores"][name] for row in rows if name in row["scores"]] for name in names}
    return {
        name: fmean(values) if name.startswith("evaluate.") else sum(values) / len(rows)
        for name, values in found.items()
    }


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
