"""Databases of these tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import text

from libs.common.db.engine import Database
from libs.common.db.tables import ProjectRow
from migrations.upgrade import upgrade
from tests.conftest import Stores


@pytest.fixture(scope="module")
def own_database(stores: Stores, database: Database) -> Iterator[Database]:
    """A database that no other keeper works on (election is per database), with a queue that no other test fills."""
    name = f"jobs_{uuid4().hex[:8]}"
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"create database {name}"))
    url = stores.settings.database_url.replace("/postgres?", f"/{name}?")
    upgrade(url)
    own = Database(url)
    with own.session() as session:
        session.add(ProjectRow(id="proj_default", name="default"))
    yield own
    own.close()
