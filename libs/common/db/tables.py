"""Every table of the platform. One Alembic history (`migrations`) creates them; a test proves the two equal."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]


class Base(DeclarativeBase):
    """Column types that all tables use alike."""

    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it from the class)
        datetime: TIMESTAMP(timezone=True),
        Json: JSONB,
        str: String,
        list[str]: ARRAY(String),
    }


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


class ConfigVersionRow(Base):
    """What was set in a section of the run-time configuration, one row a change; the highest version counts."""

    __tablename__ = "config_versions"
    section: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    values: Mapped[Json]
    changed_by: Mapped[str | None]
    reason: Mapped[str] = mapped_column(server_default="")
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


class AlertRow(Base):
    """An alert, past or present. One is open for a rule and a set of labels; `labels_key` is their canonical text."""

    __tablename__ = "alerts"
    id: Mapped[str] = mapped_column(primary_key=True)
    rule: Mapped[str]
    severity: Mapped[str]
    state: Mapped[str]
    labels: Mapped[Json]
    labels_key: Mapped[str]
    summary: Mapped[str]
    runbook: Mapped[str] = mapped_column(server_default="")
    value: Mapped[float | None]
    started_at: Mapped[datetime]
    fired_at: Mapped[datetime | None]
    quiet_since: Mapped[datetime | None]
    resolved_at: Mapped[datetime | None]
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str | None]
    note: Mapped[str] = mapped_column(server_default="")
    told: Mapped[str | None]
    told_at: Mapped[datetime | None]
    escalated_at: Mapped[datetime | None]
    __table_args__ = (
        Index(
            "ix_alerts_open",
            "rule",
            "labels_key",
            unique=True,
            postgresql_where=text("state <> 'resolved'"),
        ),
    )


class AlertSilenceRow(Base):
    """When which alerts are told to nobody."""

    __tablename__ = "alert_silences"
    id: Mapped[str] = mapped_column(primary_key=True)
    match: Mapped[Json]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    created_by: Mapped[str | None]
    reason: Mapped[str] = mapped_column(server_default="")


class AlertDeliveryRow(Base):
    """A message to one channel about one group of alerts, and what became of it."""

    __tablename__ = "alert_deliveries"
    id: Mapped[str] = mapped_column(primary_key=True)
    channel: Mapped[str]
    group: Mapped[str]
    alerts: Mapped[list[str]]
    title: Mapped[str]
    body: Mapped[str]
    state: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime]
    next_try_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    error: Mapped[str | None]
    __table_args__ = (
        Index("ix_alert_deliveries_waiting", "next_try_at", postgresql_where=text("state = 'waiting'")),
        Index("ix_alert_deliveries_group", "group", "channel", "id"),
    )


class MetricSeriesRow(Base):
    """A metric with one set of labels, as the history knows it."""

    __tablename__ = "metric_series"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    name: Mapped[str]
    labels: Mapped[Json]
    labels_key: Mapped[str]
    __table_args__ = (UniqueConstraint("name", "labels_key"),)


class MetricHistoryRow(Base):
    """What a series was over a stretch of `resolution_s` seconds that begins at `at`."""

    __tablename__ = "metric_history"
    series_id: Mapped[int] = mapped_column(
        ForeignKey("metric_series.id", ondelete="CASCADE"), primary_key=True
    )
    resolution_s: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    mean: Mapped[float]
    low: Mapped[float]
    high: Mapped[float]
    count: Mapped[int]
    __table_args__ = (Index("ix_metric_history_age", "resolution_s", "at"),)


class JobUsageRow(Base):
    """What a job has used, over all its attempts. `data` is a `contracts.monitoring.JobUsage`."""

    __tablename__ = "job_usage"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    data: Mapped[Json]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LiveSampleRow(Base):
    """What was measured of a live answer; its texts only where somebody has asked for them to be kept."""

    __tablename__ = "live_samples"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    model: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    features: Mapped[Json]
    question: Mapped[str | None]
    answer: Mapped[str | None]
    __table_args__ = (Index("ix_live_samples_model", "model", "id"), Index("ix_live_samples_at", "at"))


class DriftReferenceRow(Base):
    """The values by signal that a model's later answers are held against. They outlive the samples they were taken from."""

    __tablename__ = "drift_references"
    model: Mapped[str] = mapped_column(primary_key=True)
    values: Mapped[Json]
    last_sample: Mapped[int] = mapped_column(BigInteger)
    accepted_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DeviceLeaseRow(Base):
    """Who may use a card now, and who waits for it. A holder that falls silent loses it."""

    __tablename__ = "device_leases"
    device: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str | None]
    expires_at: Mapped[datetime | None]
    wanted_by: Mapped[str | None]
    wanted_until: Mapped[datetime | None]


class CanaryRoundRow(Base):
    """What a model answered to the canary questions once; the newest accepted round is what the next is held against."""

    __tablename__ = "canary_rounds"
    id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str]
    answers: Mapped[list[Any]] = mapped_column(JSONB)
    distance: Mapped[float | None]
    changed: Mapped[bool]
    accepted: Mapped[bool]
    asked_at: Mapped[datetime]
    __table_args__ = (Index("ix_canary_rounds_model", "model", "asked_at"),)
