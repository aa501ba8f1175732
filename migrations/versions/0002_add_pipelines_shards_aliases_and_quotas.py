"""Add pipelines, shards, aliases, quotas and configuration at run time.

Every new column has a default, so that processes of the version before go on working while this one is rolled out.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
TIME = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.add_column("projects", sa.Column("priority", sa.Integer(), server_default="0", nullable=False))
    op.add_column("projects", sa.Column("weight", sa.Float(), server_default="1", nullable=False))
    op.add_column(
        "projects", sa.Column("quotas", JSONB, server_default=sa.text("'{}'::jsonb"), nullable=False)
    )
    op.add_column("projects", sa.Column("version", sa.Integer(), server_default="1", nullable=False))
    op.add_column("jobs", sa.Column("priority", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("pipeline_id", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("input_hash", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("created_by", sa.String(), nullable=True))
    op.create_index(
        "ix_jobs_unfinished",
        "jobs",
        ["project_id", "created_by"],
        postgresql_where=sa.text("finished_at is null"),
    )
    op.create_foreign_key(
        "jobs_pipeline_id_fkey", "jobs", "jobs", ["pipeline_id"], ["id"], ondelete="SET NULL"
    )
    op.create_index("ix_jobs_pipeline_id", "jobs", ["pipeline_id"])
    op.create_index(
        "ix_jobs_line",
        "jobs",
        ["kind", "project_id", sa.text("priority DESC"), "queued_at", "id"],
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_jobs_running",
        "jobs",
        ["project_id", "kind"],
        postgresql_where=sa.text("lease_owner is not null"),
    )
    op.create_index(
        "ix_jobs_reuse",
        "jobs",
        ["project_id", "input_hash"],
        postgresql_where=sa.text("state = 'succeeded'"),
    )
    _create_shards()
    _create_steps()
    _create_aliases()
    _create_config_versions()


def downgrade() -> None:
    for table in ("config_versions", "model_aliases", "pipeline_steps", "job_shards"):
        op.drop_table(table)
    op.drop_index("ix_jobs_unfinished", "jobs")
    op.drop_index("ix_jobs_reuse", "jobs")
    op.drop_index("ix_jobs_running", "jobs")
    op.drop_index("ix_jobs_line", "jobs")
    op.drop_index("ix_jobs_pipeline_id", "jobs")
    op.drop_constraint("jobs_pipeline_id_fkey", "jobs", type_="foreignkey")
    for column in ("created_by", "input_hash", "pipeline_id", "priority"):
        op.drop_column("jobs", column)
    for column in ("version", "quotas", "weight", "priority"):
        op.drop_column("projects", column)


def _create_shards() -> None:
    op.create_table(
        "job_shards",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("spec", JSONB, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("result", JSONB, nullable=True),
        sa.Column("error", JSONB, nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_expires_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "position"),
    )


def _create_steps() -> None:
    op.create_table(
        "pipeline_steps",
        sa.Column("pipeline_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("depends_on", postgresql.ARRAY(sa.String()), nullable=False),
        sa.Column("spec", JSONB, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("input_hash", sa.String(), nullable=True),
        sa.Column("reused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("result", JSONB, nullable=True),
        sa.Column("error", JSONB, nullable=True),
        sa.ForeignKeyConstraint(["pipeline_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("pipeline_id", "name"),
    )


def _create_aliases() -> None:
    op.create_table(
        "model_aliases",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("restores", sa.Integer(), nullable=True),
        sa.Column("changed_by", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), server_default="", nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"]),
        sa.PrimaryKeyConstraint("project_id", "alias", "version"),
    )


def _create_config_versions() -> None:
    op.create_table(
        "config_versions",
        sa.Column("section", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("values", JSONB, nullable=False),
        sa.Column("changed_by", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), server_default="", nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("section", "version"),
    )
