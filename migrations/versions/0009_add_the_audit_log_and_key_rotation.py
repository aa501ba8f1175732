"""Add the audit log, which nothing changes once it is written, and what a key's rotation needs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column(
            "at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("operation", sa.String(), server_default="", nullable=False),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("data", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_audit_log_target", "audit_log", ["target", "id"])
    op.create_index("ix_audit_log_actor", "audit_log", ["actor", "id"])
    op.execute("""
        create function audit_log_stays() returns trigger language plpgsql as $$
        begin
            raise exception 'the audit log is only added to';
        end $$
    """)
    op.execute("""
        create trigger audit_log_stays before update or delete on audit_log
        for each row execute function audit_log_stays()
    """)
    op.add_column(
        "api_keys",
        sa.Column(
            "old_digests", postgresql.ARRAY(sa.String()), server_default=sa.text("'{}'"), nullable=False
        ),
    )
    op.add_column("api_keys", sa.Column("overlap_until", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.create_index("ix_api_keys_old_digests", "api_keys", ["old_digests"], postgresql_using="gin")


def downgrade() -> None:
    op.drop_index("ix_api_keys_old_digests", "api_keys")
    op.drop_column("api_keys", "overlap_until")
    op.drop_column("api_keys", "old_digests")
    op.drop_table("audit_log")
    op.execute("drop function audit_log_stays()")
