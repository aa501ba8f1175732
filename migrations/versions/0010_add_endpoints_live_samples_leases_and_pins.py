"""Add endpoints of others, samples of live answers, leases of devices, and pins of adapters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
TIME = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "endpoints",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("sealed_key", sa.String(), nullable=True),
        sa.Column("million_prompt_tokens_usd", sa.Float(), nullable=False),
        sa.Column("million_completion_tokens_usd", sa.Float(), nullable=False),
        sa.Column("tokens_field", sa.String(), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "name"),
    )

    op.create_table(
        "live_samples",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("features", JSONB, nullable=False),
        sa.Column("question", sa.String(), nullable=True),
        sa.Column("answer", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_live_samples_model", "live_samples", ["model", "id"])
    op.create_index("ix_live_samples_at", "live_samples", ["at"])
    op.create_table(
        "drift_references",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("values", JSONB, nullable=False),
        sa.Column("last_sample", sa.BigInteger(), nullable=False),
        sa.Column("accepted_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("model"),
    )
    op.create_table(
        "device_leases",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=True),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("wanted_by", sa.String(), nullable=True),
        sa.Column("wanted_until", TIME, nullable=True),
        sa.PrimaryKeyConstraint("device"),
    )
    op.add_column(
        "models", sa.Column("pinned", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )


def downgrade() -> None:
    op.drop_column("models", "pinned")
    op.drop_table("device_leases")
    op.drop_table("drift_references")
    op.drop_table("live_samples")
    op.drop_table("endpoints")
