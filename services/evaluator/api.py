"""HTTP routes of the evaluator. Each parses, calls one function and returns."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from libs.common.auth import require_internal
from libs.common.db.engine import Database
from libs.common.db.tables import JobRow
from libs.common.errors import InvalidInput, NotFound
from model_training.contracts.base import Page
from model_training.contracts.evaluations import (
    Evaluation,
    EvaluationCost,
    GradeReply,
    GradeRequest,
    ItemGrade,
    ItemResult,
    PromptSpec,
)
from model_training.contracts.evaluations_gate import GateReply, GateRequest
from model_training.contracts.jobs import JobError, JobProgress, JobState
from model_training.contracts.prices import Prices
from services.evaluator import repository
from services.evaluator.costs import cost_of
from services.evaluator.gate import judge
from services.evaluator.grading import Grader
from services.evaluator.service import Scorers, grade_all, summarise


def make_router(database: Database, grader: Grader, scorers: Scorers, internal_token: str) -> APIRouter:
    """The routes, for other services only."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(require_internal(internal_token))])

    @router.get("/evaluations/{id}", summary="One evaluation, also while it runs")
    def get_evaluation(id: str) -> Evaluation:
        with database.session() as session:
            row = repository.find_evaluation(session, id)
            if row is None:
                raise NotFound(f"There is no evaluation {id!r}.", param="id")
            return _describe(row, repository.results(session, id), scorers)

    @router.get("/evaluations/{id}/items", summary="Its graded items, in the suites' order")
    def get_items(
        id: str,
        suite: str | None = None,
        status: str | None = None,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Page[ItemResult]:
        with database.session() as session:
            if repository.find_evaluation(session, id) is None:
                raise NotFound(f"There is no evaluation {id!r}.", param="id")
            rows, more = repository.items_page(
                session, id, suite=suite, status=status, after=after, limit=limit
            )
        data = [ItemResult.model_validate(row.data) for row in rows]
        ids = [row.item_id for row in rows]
        return Page(
            data=data, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None, has_more=more
        )

    @router.post("/evaluations/{id}/gate", summary="Whether it got worse than a baseline")
    def gate(id: str, request: GateRequest) -> GateReply:
        with database.session() as session:
            for name in filter(None, (id, request.baseline)):
                _require_ended(repository.find_evaluation(session, name), name)
            new = repository.results(session, id)
            given = [item.model_dump() for item in request.items or []]
            baseline = repository.results(session, request.baseline) if request.baseline else given
        return judge(new, baseline, request, id)

    @router.post("/grade", summary="Grade outputs without a model")
    def grade(request: GradeRequest) -> GradeReply:
        grades = grade_all(grader, [(one.item, one.output) for one in request.items])
        data = [
            ItemGrade(
                item_id=one.item.id,
                correct=grade.correct,
                score=grade.score,
                scores=grade.scores,
                status=grade.status,
                reason=grade.reason,
                extracted=grade.extracted,
                extraction_failed=grade.extraction_failed,
            )
            for one, grade in zip(request.items, grades, strict=True)
        ]
        return GradeReply(data=data, isolation=grader.isolation)

    return router


def _require_ended(row: JobRow | None, name: str) -> None:
    if row is None:
        raise NotFound(f"There is no evaluation {name!r}.", param="baseline")
    if row.state != JobState.SUCCEEDED.value:
        hint = f"`mt jobs watch {name}` follows it; only finished evaluations are compared."
        raise InvalidInput(f"The evaluation {name} is {row.state}.", param="baseline", hint=hint)


def _cost(row: JobRow, results: list[dict[str, Any]]) -> EvaluationCost | None:
    """Known once the evaluation has ended."""
    duration_s = (row.result or {}).get("duration_s")
    if duration_s is None:
        return None
    prices = row.spec.get("prices")
    return cost_of(results, duration_s, Prices.model_validate(prices) if prices else None)


def _describe(row: JobRow, results: list[dict[str, object]], scorers: Scorers) -> Evaluation:
    result = row.result or {}
    return Evaluation(
        id=row.id,
        state=JobState(row.state),
        created_at=row.created_at,
        model=row.spec["model"],
        suites=summarise(results, scorers),
        prompt=PromptSpec.model_validate(row.spec.get("prompt") or {}),
        prompt_description=result.get("prompt_description"),
        isolation=result.get("isolation"),
        duration_s=result.get("duration_s"),
        cost=_cost(row, results),
        progress=JobProgress.model_validate(row.progress or {}),
        error=JobError.model_validate(row.error) if row.error else None,
    )
