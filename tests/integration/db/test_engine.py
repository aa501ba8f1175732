"""The connection pool, when PostgreSQL ends connections behind its back."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from libs.common.db import engine as module
from libs.common.db.engine import Database
from tests.conftest import Stores


def test_connections_that_died_while_idle_are_replaced(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.0)
    database = Database(stores.settings.database_url, pool_size=3)
    with database.session() as one, database.session() as two:
        pids = [session.scalar(text("select pg_backend_pid()")) for session in (one, two)]
    killer = Database(stores.settings.database_url)
    with killer.session() as session:
        for pid in pids:
            session.execute(text("select pg_terminate_backend(:pid)"), {"pid": pid})
    for _ in range(2):
        with database.session() as session:
            assert session.scalar(text("select pg_backend_pid()")) not in pids
    killer.close()
    database.close()
