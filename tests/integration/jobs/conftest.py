"""Databases of these tests' own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from libs.common.db.engine import Database
from libs.common.db.tables import ProjectRow
from tests.conftest import Stores, scratch_database


@pytest.fixture(scope="module")
def own_database(stores: Stores, database: Database) -> Iterator[Database]:
    """A database that no other keeper works on (election is per database), with a queue that no other test fills."""
    with scratch_database(stores.settings.database_url) as url:
        own = Database(url)
        with own.session() as session:
            session.add(ProjectRow(id="proj_default", name="default"))
        yield own
        own.close()
