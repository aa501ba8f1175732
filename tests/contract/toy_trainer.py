"""A trainer that counts instead of training: the real worker and runtime, checkpoints and a model at the end."""

from __future__ import annotations

import sys
from typing import Any

from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import ArtifactRow, CheckpointRow, JobRow, ModelRow
from libs.common.ids import new_id
from libs.common.jobs.worker import run_worker
from libs.common.service import create_app
from libs.common.settings import PlatformSettings
from libs.common.telemetry import configure_logging
from tests.integration.jobs.toy_worker import ToyHandler

ARTIFACT = "c" * 64


class ToyTrainer(ToyHandler):
    """Every step is a checkpoint; the end is a model."""

    def store(self, session: Session, job: JobRow, name: str, data: dict[str, Any]) -> None:
        super().store(session, job, name, data)
        session.add(
            CheckpointRow(
                id=new_id("ftckpt"),
                job_id=job.id,
                step=data["step"] + 1,
                path="",
                metrics={"train_loss": 1.5},
            )
        )

    def finish(self, session: Session, job: JobRow, result: dict[str, Any]) -> dict[str, Any]:
        session.merge(ArtifactRow(sha256=ARTIFACT, kind="adapter", bytes=1))
        model = ModelRow(
            id=new_id("model"),
            project_id=job.project_id,
            base="gemma-3-270m",
            artifact=ARTIFACT,
            job_id=job.id,
            state="servable",
        )
        session.add(model)
        return {**super().finish(session, job, result), "model_id": model.id, "trained_tokens": 1000}


if __name__ == "__main__":
    configure_logging("toy")
    settings = PlatformSettings()  # pyright: ignore[reportCallIssue]
    database = Database(settings.database_url)
    run_worker(ToyTrainer(), create_app("toy", ready=database.ready), settings, database, url=sys.argv[1])
