"""Bring a database to the newest version: `python -m migrations.upgrade` with `MT_DATABASE_URL` set, or in the secrets.

With `--wait` it changes nothing, and returns once somebody else has done so.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

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


WAIT_S = 900.0


def is_up_to_date(database_url: str) -> bool:
    """Whether a database has everything that this version needs. One that a newer version has migrated has it too."""
    script = ScriptDirectory.from_config(configuration(database_url))
    engine = create_engine(database_url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
    except OperationalError:
        return False  # it does not answer yet
    known = {one.revision for one in script.walk_revisions()}
    return revision is not None and (revision == script.get_current_head() or revision not in known)


def wait(database_url: str, timeout_s: float = WAIT_S, pause_s: float = 1.0) -> None:
    """Return once the database is up to date.

    Raises:
        TimeoutError: nobody has migrated it for `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not is_up_to_date(database_url):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"the database was not migrated within {timeout_s:.0f} s; run migrations.upgrade"
            )
        time.sleep(pause_s)


if __name__ == "__main__":
    secret = secrets_dir() / "mt_database_url"
    url = os.environ.get("MT_DATABASE_URL") or (
        secret.read_text(encoding="utf-8").strip() if secret.is_file() else ""
    )
    if not url:
        sys.exit("MT_DATABASE_URL is not set; it names the database to upgrade (postgresql+psycopg://…).")
    if "--wait" in sys.argv[1:]:
        wait(url)
    else:
        upgrade(url, *sys.argv[1:2])
