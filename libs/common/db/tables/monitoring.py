"""What the monitor keeps: alerts, history, samples of answers, canaries."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from libs.common.db.tables.base import Base, Json


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


class ModelUsageRow(Base):
    """What a model, base or tuned, has used while it answered. `data` is a `contracts.monitoring.ModelUsage`."""

    __tablename__ = "model_usage"
    model: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[Json]
    updated_at: Mapped[datetime]


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
