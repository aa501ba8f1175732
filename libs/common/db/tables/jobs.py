"""Jobs and what belongs to one: shards, steps, events, metrics, checkpoints, doorbells."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from libs.common.db.tables.base import Base, Json


class JobRow(Base):
    """A job of any kind. `fence` grows with every claim; a write that carries an old one changes nothing."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    kind: Mapped[str]
    state: Mapped[str]
    spec: Mapped[Json]
    meta: Mapped[Json] = mapped_column("metadata", server_default=text("'{}'::jsonb"))
    progress: Mapped[Json] = mapped_column(server_default=text("'{}'::jsonb"))
    result: Mapped[Json | None]
    error: Mapped[Json | None]
    attempt: Mapped[int] = mapped_column(server_default="0")
    max_attempts: Mapped[int] = mapped_column(server_default="3")
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    pause_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    last_sequence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    priority: Mapped[int] = mapped_column(server_default="0")
    pipeline_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), index=True)
    input_hash: Mapped[str | None]
    created_by: Mapped[str | None]
    traceparent: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    queued_at: Mapped[datetime | None]
    rung_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    __table_args__ = (
        Index("ix_jobs_open", "kind", "state", "queued_at", postgresql_where=text("finished_at is null")),
        Index("ix_jobs_project_created", "project_id", "id"),
        Index("ix_jobs_unfinished", "project_id", "created_by", postgresql_where=text("finished_at is null")),
        Index(
            "ix_jobs_line",
            *("kind", "project_id", text("priority DESC"), "queued_at", "id"),
            postgresql_where=text("state = 'queued'"),
        ),
        Index("ix_jobs_running", "project_id", "kind", postgresql_where=text("lease_owner is not null")),
        Index("ix_jobs_reuse", "project_id", "input_hash", postgresql_where=text("state = 'succeeded'")),
    )


class JobShardRow(Base):
    """A part of a job that one worker does at a time; several workers share a job by its shards."""

    __tablename__ = "job_shards"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    spec: Mapped[Json]
    state: Mapped[str]
    result: Mapped[Json | None]
    error: Mapped[Json | None]
    attempt: Mapped[int] = mapped_column(server_default="0")
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class PipelineStepRow(Base):
    """A step of a pipeline. The pipeline is a job itself (`kind = pipeline`), and so is the work of most steps."""

    __tablename__ = "pipeline_steps"
    pipeline_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    kind: Mapped[str]
    depends_on: Mapped[list[str]]
    spec: Mapped[Json]
    state: Mapped[str]
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    input_hash: Mapped[str | None]
    reused: Mapped[bool] = mapped_column(server_default=text("false"))
    result: Mapped[Json | None]
    error: Mapped[Json | None]


class SweepRunRow(Base):
    """A trial of a sweep with one seed. The sweep is a job itself (`kind = sweep`), and so is the work of each run."""

    __tablename__ = "sweep_runs"
    sweep_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    trial: Mapped[int] = mapped_column(primary_key=True)
    seed: Mapped[int] = mapped_column(primary_key=True)
    settings: Mapped[Json]
    state: Mapped[str]
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    eval_loss: Mapped[float | None]
    step: Mapped[int | None]
    reason: Mapped[str | None]
    error: Mapped[Json | None]


class JobEventRow(Base):
    """One event. The sequence is allocated under the job row's lock, so that it commits in order and without a gap."""

    __tablename__ = "job_events"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    level: Mapped[str]
    type: Mapped[str]
    message: Mapped[str]
    data: Mapped[Json] = mapped_column(server_default=text("'{}'::jsonb"))


class JobMetricRow(Base):
    """Values at one step of a job; a later attempt that repeats a step replaces its values."""

    __tablename__ = "job_metrics"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    values: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OutboxRow(Base):
    """A doorbell that still has to be rung: written with the job, removed once the broker has it."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    queue: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CheckpointRow(Base):
    """A committed checkpoint of a training job."""

    __tablename__ = "checkpoints"
    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    step: Mapped[int]
    path: Mapped[str]
    sha256: Mapped[str | None]
    metrics: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (UniqueConstraint("job_id", "step"),)


class JobUsageRow(Base):
    """What a job has used, over all its attempts. `data` is a `contracts.monitoring.JobUsage`."""

    __tablename__ = "job_usage"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    data: Mapped[Json]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DeviceLeaseRow(Base):
    """Who may use a card now, and who waits for it. A holder that falls silent loses it."""

    __tablename__ = "device_leases"
    device: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str | None]
    expires_at: Mapped[datetime | None]
    wanted_by: Mapped[str | None]
    wanted_until: Mapped[datetime | None]
