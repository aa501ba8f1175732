"""A platform with a history, written straight into the database: runs with long curves, models, a champion."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import (
    ArtifactRow,
    CheckpointRow,
    JobEventRow,
    JobMetricRow,
    JobRow,
    ModelAliasRow,
    ModelRow,
)
from model_training.config.training_config import TrainingConfig

PROJECT = "proj_default"
XSS = "<img src=x onerror=\"document.title='owned'\">"
"""In names and messages: must stay text on every page."""


def training(
    session: Session, job_id: str, *, points: int, state: str, file: str, learning_rate: float = 2e-4
) -> None:
    """A training job with a curve of so many points, and its events."""
    began = datetime.now(UTC) - timedelta(hours=1)
    done = state == "succeeded"
    config = TrainingConfig(learning_rate=learning_rate, check_machine=False).model_dump(mode="json")
    effective = [{"field": "packing", "asked": "auto", "applied": False, "reason": "packs on a GPU only"}]
    metrics = {"train_loss": 0.42, "eval_loss": 0.61, "tokens_per_s": 812.5, "duration_s": 1900.0}
    session.add(
        JobRow(
            id=job_id, project_id=PROJECT, kind="train", state=state, created_at=began, queued_at=began,
            started_at=began, finished_at=datetime.now(UTC) if done else None, attempt=1,
            spec={"model": "gemma-3-270m", "training_file": file, "config": config, "seed": 0,
                  "asked": {"model": "gemma-3-270m", "training_file": file}},
            progress={"fraction": 1.0 if done else 0.4, "step": points, "total": points, "message": f"epoch 1 {XSS}"},
            result={"model_id": f"model_{job_id[6:]}", "metrics": metrics, "effective": effective, "best_step": 40}
            if done else None,
            last_sequence=4, lease_owner=None if done else "w", lease_expires_at=None if done else began,
        )
    )  # fmt: skip
    session.flush()
    for sequence, (kind, message, data) in enumerate(_events(), start=1):
        row = JobEventRow(
            job_id=job_id, sequence=sequence, level="info", type=kind, message=message, data=data
        )
        session.add(row)
    session.execute(insert(JobMetricRow), [_point(job_id, step, points) for step in range(1, points + 1)])
    if done:
        _model(session, job_id, metrics)


def _events() -> list[tuple[str, str, dict[str, Any]]]:
    sample = {
        "question": f"What does chunked do? {XSS}",
        "wanted": "It splits a list.",
        "answer": f"It {XSS}",
    }
    return [
        ("state", "The job is queued.", {}),
        ("state", "The job is running.", {}),
        ("message", f"540 rows to train on, 60 to validate on. {XSS}", {}),
        ("samples", "1 sample answer at step 20.", {"step": 20, "samples": [sample]}),
    ]


def _point(job_id: str, step: int, points: int) -> dict[str, Any]:
    chance = random.Random(step)
    share = step / points
    values = {
        "loss": 2.5 * math.exp(-3 * share) + 0.4 + chance.gauss(0, 0.08),
        "learning_rate": 2e-4 * (1 - share),
        "tokens_per_s": 800 + chance.gauss(0, 20),
        "memory_bytes": 3.1e9,
    }
    if step % max(1, points // 20) == 0:
        values["eval_loss"] = 2.4 * math.exp(-2.5 * share) + 0.6
    return {"job_id": job_id, "step": step, "values": values}


def artifact_of(name: str) -> str:
    """The id under which the files of a model would lie."""
    return f"{name:0<64}"


def _model(session: Session, job_id: str, metrics: dict[str, float]) -> None:
    name = job_id[6:]
    artifact = artifact_of(name)
    session.add(ArtifactRow(sha256=artifact, kind="adapter", bytes=12_345_678, job_id=job_id))
    session.flush()
    gate = {"passed": True, "largest_difference_nats": 0.0031, "limit_nats": 0.02}
    lineage = {"base": "gemma-3-270m", "training_file": "file_x", "training_sha256": "ab" * 32, "note": XSS}
    session.add(
        ModelRow(
            id=f"model_{name}", project_id=PROJECT, base="gemma-3-270m", artifact=artifact, job_id=job_id,
            state="servable", gate=gate, metrics=metrics, lineage=lineage,
        )
    )  # fmt: skip
    session.add(
        CheckpointRow(
            id=f"ckpt_{name}", job_id=job_id, step=40, path="x", sha256="a" * 64, metrics={"eval_loss": 0.61}
        )
    )


def fill(database: Database, file: str, *, points: int = 400) -> list[str]:
    """Three finished runs, one that runs, and a champion; returns the runs' ids, the running one last."""
    names = ["ftjob_one", "ftjob_two", "ftjob_three"]
    with database.session() as session:
        for number, job_id in enumerate(names):
            training(
                session,
                job_id,
                points=points,
                state="succeeded",
                file=file,
                learning_rate=2e-4 * (number + 1),
            )
        training(session, "ftjob_live", points=min(points, 150), state="running", file=file)
        session.flush()
        for version, model in enumerate(("model_one", "model_two"), start=1):
            session.add(
                ModelAliasRow(
                    project_id=PROJECT,
                    alias="champion",
                    version=version,
                    model=model,
                    reason=f"35% right {XSS}",
                )
            )
    return [*names, "ftjob_live"]
