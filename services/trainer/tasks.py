"""The job kind `train`, for the job runtime: each call is one fenced transaction and one call of the service."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from libs.common.db.tables import JobRow
from model_training.contracts.jobs import JobKind
from services.trainer.service import Training


class TrainHandler:
    """Trains adapters."""

    kind = JobKind.TRAIN
    child_module = "services.trainer.child"

    def __init__(self, training: Training) -> None:
        self._training = training

    def prepare(self, session: Session, job: JobRow) -> dict[str, Any]:
        """The child's order; see `Training.order`."""
        return self._training.order(session, job).to_dict()

    def store(self, session: Session, job: JobRow, name: str, data: dict[str, Any]) -> None:
        """A checkpoint came or went; see `Training.keep_checkpoint`."""
        self._training.keep_checkpoint(session, job, name, data)

    def finish(self, session: Session, job: JobRow, result: dict[str, Any]) -> dict[str, Any]:
        """The adapter is published; see `Training.publish`."""
        return self._training.publish(session, job, result)
