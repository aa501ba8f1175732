"""Training jobs through the real job runtime: PostgreSQL, the spawned child, the artifact store."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from libs.common.artifacts import ArtifactStore, hash_directory
from libs.common.db.engine import Database
from libs.common.db.tables import (
    ArtifactRow,
    CheckpointRow,
    FileRow,
    JobEventRow,
    JobMetricRow,
    JobRow,
    ModelRow,
)
from libs.common.files import file_path
from libs.common.ids import new_id
from libs.common.jobs import transitions
from libs.common.jobs.worker import JobRunner
from libs.common.settings import PlatformSettings
from libs.common.testing.tiny_gemma import write_tiny_gemma
from model_training.contracts.fine_tuning import EffectiveSetting
from model_training.contracts.jobs import JobKind
from services.trainer.main import build_handler
from tests.conftest import Stores

CONFIG: dict[str, Any] = {
    "bf16": False, "fp16": False, "batch_size": 4, "gradient_accumulation": 2, "epochs": 2, "eval_steps": 2,
    "learning_rate": 5e-3, "lora_r": 4, "check_machine": False, "training_file": "data/training",
}  # fmt: skip


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


@pytest.fixture(scope="module")
def trainer(
    stores: Stores,
    database: Database,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch_module: pytest.MonkeyPatch,
) -> Trainer:
    models = tmp_path_factory.mktemp("models")
    write_tiny_gemma(models / "gemma-3-270m", layers=3)
    monkeypatch_module.setenv("OMP_NUM_THREADS", "1")
    return Trainer(stores.settings.model_copy(update={"model_dir": models, "lease_s": 60.0}), database)


@pytest.fixture(scope="module")
def monkeypatch_module() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def lines(count: int) -> str:
    rows = [
        {"question": f"What is {n}?", "answer": f"f({n})", "function": f"lib.f{n % 6}"} for n in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_job_becomes_a_model(trainer: Trainer) -> None:
    file = trainer.upload(lines(30))
    job = trainer.run(trainer.submit(file))
    assert (job.state, job.error) == ("succeeded", None)
    result = job.result or {}
    [model] = trainer.rows(select(ModelRow).where(ModelRow.job_id == job.id))
    assert (model.id, model.artifact, model.base) == (result["model_id"], result["artifact"], "gemma-3-270m")
    assert model.state == "pending"
    assert model.lineage["training_file"]["id"] == file
    assert model.lineage["seed"] == 7
    directory = ArtifactStore(trainer.settings.home / "artifacts").path(model.artifact)
    assert hash_directory(directory) == model.artifact
    assert (directory / "adapter_model.safetensors").is_file()
    assert len(trainer.rows(select(ArtifactRow).where(ArtifactRow.sha256 == model.artifact))) == 1
    assert result["metrics"]["eval_loss"] < result["metrics"]["eval_loss_before"]
    settings = {s.field: s for s in map(EffectiveSetting.model_validate, result["effective"])}
    assert (settings["batch_size"].asked, settings["batch_size"].applied) == (4, 8)
    steps = {row.step for row in trainer.rows(select(JobMetricRow).where(JobMetricRow.job_id == job.id))}
    assert steps == set(range(1, result["steps"] + 1))
    kept = trainer.rows(select(CheckpointRow).where(CheckpointRow.job_id == job.id))
    assert kept
    assert all(Path(row.path).is_dir() for row in kept)
    types = {row.type for row in trainer.rows(select(JobEventRow).where(JobEventRow.job_id == job.id))}
    assert {"data", "plan", "checkpoint", "state"} <= types


def test_a_file_that_cannot_be_used_fails_the_job_for_its_owner(trainer: Trainer) -> None:
    job = trainer.run(trainer.submit(trainer.upload('{"question": "Why?", "answer": " "}\n')))
    assert job.state == "failed"
    assert job.error is not None
    assert (job.error["code"], job.error["blame"]) == ("invalid_file", "user")
    assert "rows.jsonl, row 1, field answer: is empty" in job.error["message"]
    assert job.attempt == 1


def test_what_is_not_there_is_refused_before_anything_starts(trainer: Trainer) -> None:
    cases = [
        (trainer.submit("file_none"), "file_none"),
        (trainer.submit(trainer.upload(lines(2), "chunks")), "purpose"),
        (trainer.submit(trainer.upload(lines(3)), model="gemma-9-900b"), "gemma-9-900b"),
        (trainer.submit(trainer.upload(lines(4)), model="gemma-2b"), "not prepared"),
    ]
    for job_id, words in cases:
        job = trainer.run(job_id)
        assert job.state == "failed"
        assert job.error is not None
        assert words in job.error["message"]
        assert not (trainer.settings.home / "jobs" / job_id).exists()
