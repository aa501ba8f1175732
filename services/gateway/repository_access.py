"""SQL about keys and about what was done with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.db.tables import ApiKeyRow, AuditRow


def ensure_key(session: Session, key: ApiKeyRow) -> None:
    """Store a key if its digest is not known yet, be it as one that was rotated away."""
    if session.scalar(select(ApiKeyRow.id).where(ApiKeyRow.old_digests.contains([key.digest]))) is not None:
        return
    values = {
        "id": key.id,
        "project_id": key.project_id,
        "name": key.name,
        "digest": key.digest,
        "scopes": key.scopes,
    }
    session.execute(insert(ApiKeyRow).values(values).on_conflict_do_nothing())


def find_key(session: Session, digest: str) -> ApiKeyRow | None:
    """The key of a digest, or of the digest before its last rotation; unless it is revoked or has expired."""
    alive = select(ApiKeyRow).where(
        ApiKeyRow.revoked_at.is_(None),
        ApiKeyRow.expires_at.is_(None) | (ApiKeyRow.expires_at > func.now()),
    )
    found = session.scalars(alive.where(ApiKeyRow.digest == digest)).one_or_none()
    if found is not None:
        return found
    rotated = session.scalars(
        alive.where(ApiKeyRow.old_digests.contains([digest]), ApiKeyRow.overlap_until > func.now())
    ).one_or_none()
    return rotated if rotated is not None and rotated.old_digests[-1] == digest else None


def locked_key(session: Session, key_id: str) -> ApiKeyRow | None:
    """A key by its id, locked until the transaction ends and read afresh."""
    query = select(ApiKeyRow).where(ApiKeyRow.id == key_id).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()


def audit_page(
    session: Session, after: str | None, limit: int, where: Mapping[str, str | None]
) -> tuple[list[AuditRow], bool]:
    """Entries of the audit log, newest first, and whether there are more. `where`: columns and what they must be."""
    query = select(AuditRow).where(
        *(getattr(AuditRow, name) == value for name, value in where.items() if value is not None)
    )
    if after is not None:
        query = query.where(AuditRow.id < after)
    rows = list(session.scalars(query.order_by(AuditRow.id.desc()).limit(limit + 1)).all())
    return rows[:limit], len(rows) > limit


def key_names(session: Session, ids: Iterable[str]) -> dict[str, str]:
    """The names of keys, by their ids."""
    found = session.execute(select(ApiKeyRow.id, ApiKeyRow.name).where(ApiKeyRow.id.in_(list(ids))))
    return {id: name for id, name in found}
