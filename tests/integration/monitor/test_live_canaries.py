"""Canary questions to the real inference service: the base in an adapter's place is noticed in the first round."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete

from libs.common.db.engine import Database
from libs.common.db.tables import CanaryRoundRow
from libs.common.testing.tiny_gemma import write_tiny_adapter
from services.monitor.adapters.canary_http import CanaryAsker
from services.monitor.service.canaries import Canaries
from tests.conftest import Stores
from tests.integration.inference.serving import BASE, serving, write_fingerprint

pytestmark = pytest.mark.slow

NAME = "champion"


@pytest.fixture
def database_of_rounds(database: Database) -> Iterator[Database]:
    """Rounds are removed afterwards."""
    yield database
    with database.session() as session:
        session.execute(delete(CanaryRoundRow))


def test_a_swapped_adapter_is_noticed(stores: Stores, database_of_rounds: Database, tmp_path: Path) -> None:
    with serving(stores, database_of_rounds, tmp_path / "models") as served:
        adapter = write_fingerprint(write_tiny_adapter(tmp_path / "adapter", served.base), served.base)
        behind = served.publish("model_canary", adapter)
        asker = CanaryAsker(served.url, served.token)

        class Alias:
            def ask(self, model: str) -> object:
                return asker.ask(behind)

        rounds = Canaries(
            database_of_rounds,
            Alias(),
            lambda: [NAME],
            lambda: datetime.now(UTC),
            every_s=0,  # pyright: ignore[reportArgumentType]
        )
        assert rounds.round() == []  # accepted
        assert rounds.round() == []  # the same
        behind = BASE
        assert rounds.round() == [NAME]
        asker.close()
