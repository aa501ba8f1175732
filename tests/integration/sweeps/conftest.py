"""A database, a toy trainer and a gateway for tests of sweeps."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.common.db.engine import Database
from libs.common.db.tables import ProjectRow
from model_training.contracts.jobs import FINAL_STATES
from model_training.contracts.sweeps import Sweep
from tests.conftest import Stores, free_ports, scratch_database
from tests.integration.pipelines.conftest import KEY, Lab, process, wait_until


@pytest.fixture(scope="package")
def lab(stores: Stores) -> Iterator[Lab]:
    """A database and a toy trainer, without a gateway."""
    with scratch_database(stores.settings.database_url) as url:
        own = Database(url)
        with own.session() as session:
            session.add(ProjectRow(id="proj_default", name="default"))
        env = {
            **stores.environment,
            "MT_DATABASE_URL": url,
            "MT_BROKER_URL": stores.settings.broker_url.rpartition("/")[0] + "/2",
            "MT_BOOTSTRAP_API_KEY": KEY,
        }
        with process("tests.integration.sweeps.toy_trainer", env=env):
            yield Lab(env, stores.home, own, f"http://127.0.0.1:{free_ports(1)}")
        own.close()


@pytest.fixture(scope="package")
def gateway(lab: Lab) -> Iterator[subprocess.Popen[bytes]]:
    with lab.gateway() as running:
        yield running


def upload(lab: Lab, directory: Path) -> str:
    path = directory / "train.jsonl"
    path.write_text('{"question": "q", "answer": "a"}\n', encoding="utf-8")
    with lab.client() as client:
        return client.files.upload(path, "fine-tune").id


def wanted(file: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "test",
        "model": "gemma-3-270m",
        "training_file": file,
        "config": {"epochs": 1},
        "search": {"learning_rate": [0.0003, 0.003, 0.006, 0.009]},
        **more,
    }


def ended(lab: Lab, sweep_id: str) -> Sweep:
    with lab.client() as client:
        wait_until(lambda: client.jobs.get(sweep_id).state in FINAL_STATES, 60)
        return client.sweeps.get(sweep_id)
