"""SQL about endpoints of others."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from libs.common.db.tables import EndpointRow


def find(session: Session, project_id: str, name: str) -> EndpointRow | None:
    """The endpoint of a name."""
    query = select(EndpointRow).where(EndpointRow.project_id == project_id, EndpointRow.name == name)
    return session.scalars(query).one_or_none()


def page(session: Session, project_id: str, after: str | None, limit: int) -> tuple[list[EndpointRow], bool]:
    """A project's endpoints, newest first, and whether there are more."""
    query = select(EndpointRow).where(EndpointRow.project_id == project_id)
    if after is not None:
        query = query.where(EndpointRow.id < after)
    rows = list(session.scalars(query.order_by(EndpointRow.id.desc()).limit(limit + 1)))
    return rows[:limit], len(rows) > limit
