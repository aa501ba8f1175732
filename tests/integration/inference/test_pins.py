"""A pinned adapter is in memory again after the service was restarted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from libs.common.db.engine import Database
from libs.common.db.tables import ModelRow
from libs.common.testing.tiny_gemma import write_tiny_adapter
from tests.conftest import Stores
from tests.integration.inference.serving import Served, serving, wait_until, write_fingerprint


def test_pins_are_there_again_after_a_restart(stores: Stores, database: Database, tmp_path: Path) -> None:
    room = {"inference_tuned_models": 2}
    with serving(stores, database, tmp_path / "models", **room) as first:
        adapter = write_fingerprint(
            write_tiny_adapter(tmp_path / "pin", first.base, strength=0.2, seed=9), first.base
        )
        model = first.publish("model_pinned", adapter)
        assert first.http("POST", f"/v1/adapters/{model}/pin").json()["pinned"] is True
    with serving(stores, database, tmp_path / "models", **room) as second:
        wait_until(lambda: _adapter(second, model)["pinned"])
        assert _adapter(second, model)["loaded"] is True
        assert second.http("POST", f"/v1/adapters/{model}/unpin").json()["pinned"] is False
    with database.session() as session:
        assert session.get_one(ModelRow, model).pinned is False


def _adapter(served: Served, model: str) -> dict[str, Any]:
    return next(row for row in served.http("GET", "/v1/adapters").json()["data"] if row["id"] == model)
