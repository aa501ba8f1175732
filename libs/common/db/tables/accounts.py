"""Who may do what, what they set and what they did: projects, keys, configuration, audit log."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from libs.common.db.tables.base import Base, Json


class ProjectRow(Base):
    """Whom resources belong to."""

    __tablename__ = "projects"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    priority: Mapped[int] = mapped_column(server_default="0")
    weight: Mapped[float] = mapped_column(server_default="1")
    quotas: Mapped[Json] = mapped_column(server_default=text("'{}'::jsonb"))
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKeyRow(Base):
    """A key, as its HMAC only. Until `overlap_until` the secret before the last rotation (the last of the old) works too."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    old_digests: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    overlap_until: Mapped[datetime | None]
    __table_args__ = (Index("ix_api_keys_old_digests", "old_digests", postgresql_using="gin"),)


class ConfigVersionRow(Base):
    """What was set in a section of the run-time configuration, one row a change; the highest version counts."""

    __tablename__ = "config_versions"
    section: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    values: Mapped[Json]
    changed_by: Mapped[str | None]
    reason: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AuditRow(Base):
    """Who changed what. Rows are only added; a trigger refuses the rest. `actor` is a key's id."""

    __tablename__ = "audit_log"
    id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
    project_id: Mapped[str]
    actor: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    operation: Mapped[str] = mapped_column(server_default="")
    request_id: Mapped[str | None]
    data: Mapped[Json] = mapped_column(server_default=text("'{}'::jsonb"))
    __table_args__ = (
        Index("ix_audit_log_target", "target", "id"),
        Index("ix_audit_log_actor", "actor", "id"),
    )


class IdempotencyRow(Base):
    """The first answer to a create, kept for its key."""

    __tablename__ = "idempotency_keys"
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str]
    body_sha256: Mapped[str]
    status: Mapped[int]
    response: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
