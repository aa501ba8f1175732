"""Bring a database to the newest version: `python -m migrations.upgrade` with `MT_DATABASE_URL` set, or in the secrets."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config

from libs.common.settings import secrets_dir


def configuration(database_url: str) -> Config:
    """Alembic's configuration for a database; no ini file is needed."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("sqlalchemy.url", database_url.replace("%", "%%"))
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Run the migrations up to a revision. Running them again changes nothing."""
    command.upgrade(configuration(database_url), revision)


if __name__ == "__main__":
    secret = secrets_dir() / "mt_database_url"
    url = os.environ.get("MT_DATABASE_URL") or (
        secret.read_text(encoding="utf-8").strip() if secret.is_file() else ""
    )
    if not url:
        sys.exit("MT_DATABASE_URL is not set; it names the database to upgrade (postgresql+psycopg://…).")
    upgrade(url)
