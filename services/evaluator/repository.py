"""All SQL of the evaluator."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.db.tables import EvaluationItemRow, FileRow, JobRow, ModelRow
from model_training.contracts.evaluations import ItemResult
from model_training.contracts.jobs import JobKind


def find_file(session: Session, project_id: str, file_id: str) -> FileRow | None:
    """A file of a project."""
    row = session.get(FileRow, file_id)
    return row if row is not None and row.project_id == project_id else None


def find_model(session: Session, project_id: str, model_id: str) -> ModelRow | None:
    """A tuned model of a project."""
    row = session.get(ModelRow, model_id)
    return row if row is not None and row.project_id == project_id else None


def find_evaluation(session: Session, job_id: str) -> JobRow | None:
    """The job row of an evaluation."""
    row = session.get(JobRow, job_id)
    return row if row is not None and row.kind == JobKind.EVALUATE.value else None


def done_ids(session: Session, job_id: str) -> list[str]:
    """Ids of the items that are graded already."""
    return list(session.scalars(select(EvaluationItemRow.item_id).where(EvaluationItemRow.job_id == job_id)))


def save_item(session: Session, job_id: str, position: int, result: ItemResult) -> None:
    """Store a graded item; a repeated one replaces what was there."""
    values: dict[str, Any] = {
        "position": position,
        "suite": result.suite,
        "status": result.status,
        "correct": result.correct,
        "score": result.score,
        "data": result.model_dump(mode="json"),
    }
    statement = insert(EvaluationItemRow).values(job_id=job_id, item_id=result.item_id, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["job_id", "item_id"], set_=values))


def done_positions(session: Session, job_id: str, start: int, stop: int) -> list[int]:
    """Which answers from `start` up to `stop` are graded already."""
    query = select(EvaluationItemRow.position).where(
        EvaluationItemRow.job_id == job_id,
        EvaluationItemRow.position >= start,
        EvaluationItemRow.position < stop,
    )
    return list(session.scalars(query))


def tally(session: Session, job_id: str) -> tuple[int, int]:
    """How many answers are graded, and how many of them are right."""
    count, right = func.count(), func.count().filter(EvaluationItemRow.correct)
    row = session.execute(select(count, right).where(EvaluationItemRow.job_id == job_id)).one()
    return row[0], row[1]


def results(session: Session, job_id: str) -> list[dict[str, Any]]:
    """Every graded item, in the suites' order."""
    query = select(EvaluationItemRow.data).where(EvaluationItemRow.job_id == job_id)
    return list(session.scalars(query.order_by(EvaluationItemRow.position)))


def items_page(
    session: Session, job_id: str, *, suite: str | None, status: str | None, after: str | None, limit: int
) -> tuple[list[EvaluationItemRow], bool]:
    """Graded items after another one, in the suites' order, and whether there are more."""
    query = select(EvaluationItemRow).where(EvaluationItemRow.job_id == job_id)
    if suite is not None:
        query = query.where(EvaluationItemRow.suite == suite)
    if status is not None:
        query = query.where(EvaluationItemRow.status == status)
    if after is not None:
        last = select(EvaluationItemRow.position).where(
            EvaluationItemRow.job_id == job_id, EvaluationItemRow.item_id == after
        )
        query = query.where(EvaluationItemRow.position > last.scalar_subquery())
    rows = list(session.scalars(query.order_by(EvaluationItemRow.position).limit(limit + 1)))
    return rows[:limit], len(rows) > limit
