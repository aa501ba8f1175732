"""Builds and runs the trainer: a worker for jobs of kind `train`, with health and metrics beside it."""

from __future__ import annotations

from libs.common.artifacts import open_artifacts
from libs.common.db.engine import Database
from libs.common.jobs.worker import run_worker
from libs.common.models.store import ModelStore
from libs.common.service import create_app
from libs.common.settings import PlatformSettings
from libs.common.telemetry import configure_logging
from services.trainer.launch import read_shape
from services.trainer.service import Training
from services.trainer.settings import TrainerSettings
from services.trainer.tasks import TrainHandler


def build_handler(settings: PlatformSettings) -> TrainHandler:
    """The handler of training jobs on this machine's directories."""
    artifacts = open_artifacts(settings)
    return TrainHandler(Training(settings.home, ModelStore(settings.model_dir), artifacts))


def main() -> None:
    """Run until SIGTERM."""
    settings = TrainerSettings()  # pyright: ignore[reportCallIssue] (values come from the environment)
    configure_logging("trainer", settings.log_level)
    read_shape(settings)  # what cannot be launched is refused here and not by the first job
    database = Database(settings.database_url)
    app = create_app("trainer", ready=database.ready)
    run_worker(build_handler(settings), app, settings, database, url=settings.trainer_url)


if __name__ == "__main__":
    main()
