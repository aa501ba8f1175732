"""A trainer without its process, on a tiny model: what the tests of training jobs share."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import pytest

from libs.common.db.engine import Database
from libs.common.db.tables import FileRow, JobRow
from libs.common.files import file_path
from libs.common.ids import new_id
from libs.common.jobs import transitions
from libs.common.jobs.worker import JobRunner
from libs.common.settings import PlatformSettings
from libs.common.testing.tiny_gemma import write_tiny_gemma
from model_training.contracts.jobs import JobKind
from services.trainer.main import build_handler
from tests.conftest import Stores

CONFIG: dict[str, Any] = {
    "bf16": False, "fp16": False, "batch_size": 4, "gradient_accumulation": 2, "epochs": 2, "eval_steps": 2,
    "learning_rate": 5e-3, "lora_r": 4, "check_machine": False, "training_file": "data/training",
}  # fmt: skip


DRAWS: dict[str, Any] = {"lora_dropout": 0.2, "epochs": 6, "early_stopping_patience": 0}
"""Settings of a job whose steps draw random numbers."""


@dataclass(frozen=True)
class Trainer:
    """A trainer's worker without its process: jobs run when they are told to."""

    settings: PlatformSettings
    database: Database

    def upload(self, text: str, purpose: str = "fine-tune") -> str:
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        path = file_path(self.settings.home, sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        row = FileRow(
            id=new_id("file"), project_id="proj_default", filename="rows.jsonl", purpose=purpose,
            bytes=len(text), sha256=sha256, report={},
        )  # fmt: skip
        with self.database.session() as session:
            session.add(row)
        return row.id

    def submit(self, training_file: str, *, model: str = "gemma-3-270m", **config: Any) -> str:
        spec = {
            "model": model, "training_file": training_file, "validation_file": None,
            "config": {**CONFIG, **config}, "suffix": "demo", "seed": 7,
        }  # fmt: skip
        with self.database.session() as session:
            return transitions.create(session, JobKind.TRAIN, "proj_default", spec).id

    def run(self, job_id: str) -> JobRow:
        JobRunner(build_handler(self.settings), self.database, self.settings).run(job_id)
        with self.database.session() as session:
            return session.get_one(JobRow, job_id)

    def rows(self, query: Any) -> list[Any]:
        with self.database.session() as session:
            return list(session.scalars(query))


@pytest.fixture(scope="session")
def trainer(
    stores: Stores,
    database: Database,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch_session: pytest.MonkeyPatch,
) -> Trainer:
    models = tmp_path_factory.mktemp("models")
    write_tiny_gemma(models / "gemma-3-270m", layers=3)
    monkeypatch_session.setenv("OMP_NUM_THREADS", "1")
    return Trainer(stores.settings.model_copy(update={"model_dir": models, "lease_s": 60.0}), database)


@pytest.fixture(scope="session")
def monkeypatch_session() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def lines(count: int) -> str:
    rows = [
        {"question": f"What is {n}?", "answer": f"f({n})", "function": f"lib.f{n % 6}"} for n in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="session")
def undisturbed(trainer: Trainer) -> str:
    """A job that has succeeded without an interruption."""
    job = trainer.run(trainer.submit(trainer.upload(lines(30)), **DRAWS))
    assert (job.state, job.error) == ("succeeded", None)
    return job.id
