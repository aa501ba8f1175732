"""What jobs read and make: files, artifacts, models, indexes, evaluation items, votes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from libs.common.db.tables.base import Base, Json


class FileRow(Base):
    """An uploaded file; its bytes lie under their hash."""

    __tablename__ = "files"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    filename: Mapped[str]
    purpose: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(index=True)
    report: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ArtifactRow(Base):
    """A directory in the artifact store."""

    __tablename__ = "artifacts"
    sha256: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ModelRow(Base):
    """A tuned model: a base and an adapter from the artifact store."""

    __tablename__ = "models"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    base: Mapped[str]
    artifact: Mapped[str] = mapped_column(ForeignKey("artifacts.sha256"))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    state: Mapped[str]
    gate: Mapped[Json | None]
    metrics: Mapped[Json] = mapped_column(server_default=text("'{}'::jsonb"))
    lineage: Mapped[Json] = mapped_column(server_default=text("'{}'::jsonb"))
    pinned: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EndpointRow(Base):
    """A model of somebody else's. `sealed_key` is encrypted with a secret that only gateways hold."""

    __tablename__ = "endpoints"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    url: Mapped[str]
    model: Mapped[str]
    sealed_key: Mapped[str | None]
    million_prompt_tokens_usd: Mapped[float]
    million_completion_tokens_usd: Mapped[float]
    tokens_field: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (UniqueConstraint("project_id", "name"),)


class ModelAliasRow(Base):
    """To which model an alias points, one row a change; the highest version counts. A rollback says what it restores."""

    __tablename__ = "model_aliases"
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str]
    restores: Mapped[int | None]
    changed_by: Mapped[str | None]
    reason: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class IndexRow(Base):
    """A retrieval index that can be searched. Its id is the id of the job that built it."""

    __tablename__ = "indexes"
    id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    name: Mapped[str]
    chunks: Mapped[int]
    stamp: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EvaluationItemRow(Base):
    """One graded item of an evaluation. `data` is a `contracts.evaluations.ItemResult`."""

    __tablename__ = "evaluation_items"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    item_id: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    suite: Mapped[str]
    status: Mapped[str]
    correct: Mapped[bool]
    score: Mapped[float]
    data: Mapped[Json]


class VoteRow(Base):
    """Which of several answers somebody found best. `subject_sha256` is of question and arms: one vote a key on each."""

    __tablename__ = "votes"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    key_id: Mapped[str]
    subject_sha256: Mapped[str]
    question: Mapped[str]
    arms: Mapped[list[str]]
    chosen: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        UniqueConstraint("project_id", "key_id", "subject_sha256", name="uq_votes_once"),
        Index("ix_votes_project_id", "project_id", "id"),
    )
