"""Measuring a search on labelled questions, and choosing an index's defaults by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prometheus_client import Gauge

from libs.common.errors import InvalidInput
from model_training.contracts.retrieval import (
    LabelledQuestion,
    RetrievalEvaluate,
    RetrievalReport,
    RetrievalTune,
    TuneReport,
)
from services.rag.domain import metrics, tuning
from services.rag.domain.metrics import METRICS, Ranks
from services.rag.domain.search import SearchPlan, checked_query
from services.rag.ports import VectorStore
from services.rag.service.indexes import Indexes, default_plan

RECALL = Gauge(
    "mt_rag_recall_ratio",
    "Share of labelled questions whose passage was among the best k, when it was last measured.",
    ["index"],
)
DEPTH = 100
LEAST_QUESTIONS = 20
SHOWN = 5


class Measuring:
    """Evaluates and tunes the indexes of a project."""

    def __init__(self, indexes: Indexes, store: VectorStore) -> None:
        self._indexes = indexes
        self._store = store

    def evaluate(self, project_id: str | None, reference: str, request: RetrievalEvaluate) -> RetrievalReport:
        """Ask every question and say how well its passages are found.

        Raises:
            NotFound: there is no such index.
            InvalidInput: no question names anything that the index holds.
        """
        index = self._indexes.resolve(project_id, reference)
        plan = default_plan(index).with_options(request)
        questions, unlabelled = self._answerable(index.id, request.questions)
        ranks = [self._ranks(index.id, question, plan, request.k) for question in questions]
        missed = [
            question.id
            for question, row in zip(questions, ranks, strict=True)
            if metrics.recall(row, request.k) == 0
        ]
        overall = metrics.summarise(questions, ranks, request.k)
        RECALL.labels(index.name).set(overall.recall[str(request.k)].estimate)
        return RetrievalReport(
            index=index.id,
            options=plan.as_options(),
            k=request.k,
            overall=overall,
            by_kind=dict(metrics.by_kind(questions, ranks, request.k)),
            misses=missed,
            unlabelled=unlabelled,
        )

    def tune(self, project_id: str | None, reference: str, request: RetrievalTune) -> TuneReport:
        """Choose how an index is searched: the best on one half of the questions, if it is also better on the other.

        Raises:
            NotFound: there is no such index.
            InvalidInput: too few questions name something that the index holds.
        """
        index = self._indexes.resolve(project_id, reference)
        questions, _ = self._answerable(index.id, request.questions)
        choosing, judging = tuning.halves(questions)
        if len(questions) < LEAST_QUESTIONS or not judging:
            raise InvalidInput(
                f"{len(questions)} questions are too few to tune on.",
                param="questions",
                hint=f"Give at least {LEAST_QUESTIONS}, about several passages: half choose, half judge.",
            )
        lists = [self._lists(index.id, question) for question in questions]
        values = {
            plan: [
                METRICS[request.metric](metrics.ranks_of(question, both.ranked(plan)), request.k)
                for question, both in zip(questions, lists, strict=True)
            ]
            for plan in tuning.candidates()
        }
        order = sorted(values, key=lambda plan: -sum(values[plan][i] for i in choosing))
        return self._report(index.id, request, questions, values, order, choosing, judging)

    def _report(
        self,
        index_id: str,
        request: RetrievalTune,
        questions: Sequence[LabelledQuestion],
        values: dict[SearchPlan, list[float]],
        order: list[SearchPlan],
        choosing: list[int],
        judging: list[int],
    ) -> TuneReport:
        groups = [metrics.cluster(questions[i]) for i in judging]
        before = [values[SearchPlan()][i] for i in judging]
        after = [values[order[0]][i] for i in judging]
        gain = metrics.difference(before, after, groups)
        chosen = order[0] if gain.estimate > 0 else SearchPlan()
        if request.store:
            self._indexes.set_defaults(index_id, chosen.as_options())
        return TuneReport(
            index=index_id,
            metric=request.metric,
            k=request.k,
            chosen=chosen.as_options(),
            tried=len(values),
            held_out=len(judging),
            default=metrics.estimate(before, groups),
            tuned=metrics.estimate(after if chosen == order[0] else before, groups),
            difference=gain,
            stored=request.store,
            reason=_reason(chosen == order[0], order[0] == SearchPlan(), gain.low > 0),
            best=[
                plan.as_options().model_dump(exclude_none=True)
                | {request.metric: sum(values[plan][i] for i in choosing) / len(choosing)}
                for plan in order[:SHOWN]
            ],
        )

    def _answerable(
        self, index_id: str, questions: Sequence[LabelledQuestion]
    ) -> tuple[list[LabelledQuestion], list[str]]:
        """Questions with the labels that the index holds, and the ids of those of whose labels it holds none."""
        held = self._held(index_id, questions)
        kept: list[LabelledQuestion] = []
        unlabelled: list[str] = []
        for question in questions:
            passages = [name for name in question.passages if ("id", name) in held]
            functions = [name for name in question.functions if ("functions", name) in held]
            if passages or functions:
                kept.append(question.model_copy(update={"passages": passages, "functions": functions}))
            else:
                unlabelled.append(question.id)
        if not kept:
            raise InvalidInput(
                "No question names a passage or a function that the index holds.",
                param="questions",
                hint="`passages` are ids of passages, `functions` are names as passages carry them.",
            )
        return kept, unlabelled

    def _held(self, index_id: str, questions: Sequence[LabelledQuestion]) -> set[tuple[str, str]]:
        wanted = {("id", name) for question in questions for name in question.passages}
        wanted |= {("functions", name) for question in questions for name in question.functions}
        held: set[tuple[str, str]] = set()
        for point in self._store.points(index_id):
            held.add(("id", point.chunk.id))
            held.update(("functions", name) for name in point.chunk.functions)
        return wanted & held

    def _ranks(self, index_id: str, question: LabelledQuestion, plan: SearchPlan, k: int) -> Ranks:
        found = self._indexes.search(index_id, checked_query(question.question), plan, k)
        return metrics.ranks_of(question, [hit.chunk for hit in found])

    def _lists(self, index_id: str, question: LabelledQuestion) -> tuning.Lists:
        text = checked_query(question.question)
        plan = SearchPlan()
        return tuning.Lists(
            self._indexes.search(index_id, text, replace(plan, mode="dense"), DEPTH),
            self._indexes.search(index_id, text, replace(plan, mode="bm25"), DEPTH),
        )


def _reason(kept_best: bool, best_is_default: bool, certain: bool) -> str:
    if best_is_default:
        return "Nothing that was tried is better than the default."
    if not kept_best:
        return "The best on the half that chose is not better on the other half; the default stays."
    if certain:
        return "Better than the default on questions that did not choose it."
    return "Better than the default on questions that did not choose it, but the interval includes 0: it may be chance."
