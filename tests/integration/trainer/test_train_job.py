"""Training jobs through the real job runtime: PostgreSQL, the spawned child, the artifact store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from sqlalchemy import select

from libs.common.artifacts import ArtifactStore, hash_directory
from libs.common.db.tables import ArtifactRow, CheckpointRow, JobEventRow, JobMetricRow, JobRow, ModelRow
from model_training.contracts.fine_tuning import EffectiveSetting
from tests.conftest import ROOT
from tests.integration.trainer.conftest import Trainer, lines


def test_a_job_becomes_a_model(trainer: Trainer, undisturbed: str) -> None:
    [job] = trainer.rows(select(JobRow).where(JobRow.id == undisturbed))
    result = job.result or {}
    [model] = trainer.rows(select(ModelRow).where(ModelRow.job_id == job.id))
    assert (model.id, model.artifact, model.base) == (result["model_id"], result["artifact"], "gemma-3-270m")
    assert model.state == "pending"
    assert model.lineage["training_file"]["id"] == job.spec["training_file"]
    assert model.lineage["seed"] == 7
    directory = ArtifactStore(trainer.settings.home / "artifacts").path(model.artifact)
    assert hash_directory(directory) == model.artifact
    assert (directory / "adapter_model.safetensors").is_file()
    assert len(trainer.rows(select(ArtifactRow).where(ArtifactRow.sha256 == model.artifact))) == 1
    assert result["metrics"]["eval_loss"] < result["metrics"]["eval_loss_before"]
    held, expected = result["metrics"]["peak_memory_bytes"], result["took"]["expected_memory_bytes"]
    assert held / 1.5 < expected < held * 1.5
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


@pytest.mark.slow
def test_a_whole_model_is_not_passed_off_as_an_adapter_and_becomes_a_base(
    trainer: Trainer, tmp_path: Path
) -> None:
    job = trainer.run(trainer.submit(trainer.upload(lines(30)), method="full", learning_rate=1e-3))
    assert (job.state, job.error) == ("succeeded", None)
    [model] = trainer.rows(select(ModelRow).where(ModelRow.job_id == job.id))
    directory = ArtifactStore(trainer.settings.home / "artifacts").path(model.artifact)
    assert model.state == "refused"
    assert f"mt models prepare {directory} --name NAME" in (model.gate or {})["reason"]
    [artifact] = trainer.rows(select(ArtifactRow).where(ArtifactRow.sha256 == model.artifact))
    assert artifact.kind == "model"
    command = [
        sys.executable,
        "-m",
        "model_training.cli.main",
        "models",
        "prepare",
        str(directory),
        "--name",
        "ours",
    ]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "MT_MODEL_DIR": str(tmp_path)})
    assert (
        load_file(tmp_path / "ours" / "model.safetensors").keys()
        == load_file(trainer.settings.model_dir / "gemma-3-270m" / "model.safetensors").keys()
    )
