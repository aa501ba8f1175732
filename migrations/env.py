"""Alembic's entry: runs the history against the URL that the caller put into the configuration."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine

from libs.common.db.tables import Base


def _run() -> None:
    engine = create_engine(context.config.get_main_option("sqlalchemy.url") or "")
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=False)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


_run()
