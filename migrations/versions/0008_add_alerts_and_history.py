"""Add alerts, the history of metrics, what jobs use, and canary rounds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0003"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
TIME = postgresql.TIMESTAMP(timezone=True)
TEXTS = postgresql.ARRAY(sa.String())


def upgrade() -> None:
    _alerts()
    _history()
    op.create_table(
        "job_usage",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("data", JSONB, nullable=False),
        sa.Column("updated_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_table(
        "canary_rounds",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("answers", JSONB, nullable=False),
        sa.Column("distance", sa.Float(), nullable=True),
        sa.Column("changed", sa.Boolean(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("asked_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_canary_rounds_model", "canary_rounds", ["model", "asked_at"])


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("labels", JSONB, nullable=False),
        sa.Column("labels_key", sa.String(), nullable=False),
        sa.Column("summary", sa.String(), nullable=False),
        sa.Column("runbook", sa.String(), server_default="", nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("fired_at", TIME, nullable=True),
        sa.Column("quiet_since", TIME, nullable=True),
        sa.Column("resolved_at", TIME, nullable=True),
        sa.Column("acknowledged_at", TIME, nullable=True),
        sa.Column("acknowledged_by", sa.String(), nullable=True),
        sa.Column("note", sa.String(), server_default="", nullable=False),
        sa.Column("told", sa.String(), nullable=True),
        sa.Column("told_at", TIME, nullable=True),
        sa.Column("escalated_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_alerts_open",
        "alerts",
        ["rule", "labels_key"],
        unique=True,
        postgresql_where=sa.text("state <> 'resolved'"),
    )
    op.create_table(
        "alert_silences",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("match", JSONB, nullable=False),
        sa.Column("starts_at", TIME, nullable=False),
        sa.Column("ends_at", TIME, nullable=False),
        sa.Column("created_by", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "alert_deliveries",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("group", sa.String(), nullable=False),
        sa.Column("alerts", TEXTS, nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("next_try_at", TIME, nullable=True),
        sa.Column("sent_at", TIME, nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_alert_deliveries_waiting",
        "alert_deliveries",
        ["next_try_at"],
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index("ix_alert_deliveries_group", "alert_deliveries", ["group", "channel", "id"])


def _history() -> None:
    op.create_table(
        "metric_series",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("labels", JSONB, nullable=False),
        sa.Column("labels_key", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", "labels_key"),
    )
    op.create_table(
        "metric_history",
        sa.Column("series_id", sa.BigInteger(), nullable=False),
        sa.Column("resolution_s", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("mean", sa.Float(), nullable=False),
        sa.Column("low", sa.Float(), nullable=False),
        sa.Column("high", sa.Float(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["metric_series.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("series_id", "resolution_s", "at"),
    )
    op.create_index("ix_metric_history_age", "metric_history", ["resolution_s", "at"])


def downgrade() -> None:
    tables = ("canary_rounds", "job_usage", "metric_history", "metric_series")
    for table in (*tables, "alert_deliveries", "alert_silences", "alerts"):
        op.drop_table(table)
