"""The gateway's SQL of votes."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.db.tables import VoteRow


def save(session: Session, row: VoteRow) -> VoteRow:
    """Store a vote; one of the same key on the same question and arms is changed."""
    values = {column.name: getattr(row, column.name) for column in VoteRow.__table__.columns}
    del values["created_at"]
    statement = (
        insert(VoteRow)
        .values(**values)
        .on_conflict_do_update(
            constraint="uq_votes_once", set_={"chosen": row.chosen, "created_at": func.now()}
        )
        .returning(VoteRow)
    )
    return session.scalars(statement, execution_options={"populate_existing": True}).one()


def page(session: Session, project_id: str, after: str | None, limit: int) -> tuple[Sequence[VoteRow], bool]:
    """Votes of a project, newest first, and whether there are more."""
    query = (
        select(VoteRow).where(VoteRow.project_id == project_id).order_by(VoteRow.id.desc()).limit(limit + 1)
    )
    if after is not None:
        query = query.where(VoteRow.id < after)
    rows = session.scalars(query).all()
    return rows[:limit], len(rows) > limit
