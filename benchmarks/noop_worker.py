"""A worker of the train queue whose jobs do nothing: `benchmarks.gateway` measures the way to a worker with it."""

from __future__ import annotations

import sys
from typing import Any

from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import JobRow
from libs.common.jobs.child import run_child
from libs.common.jobs.worker import run_worker
from libs.common.service import create_app
from libs.common.settings import PlatformSettings
from libs.common.telemetry import configure_logging
from model_training.contracts.jobs import JobKind


class NoopHandler:
    """Hands the spec on and stores nothing."""

    kind = JobKind.TRAIN
    child_module = "benchmarks.noop_worker"

    def prepare(self, session: Session, job: JobRow) -> dict[str, Any]:
        return {}

    def store(self, session: Session, job: JobRow, name: str, data: dict[str, Any]) -> None:
        raise AssertionError("the child has no outputs")

    def finish(self, session: Session, job: JobRow, result: dict[str, Any]) -> dict[str, Any]:
        return result


if __name__ == "__main__":
    if len(sys.argv) == 1:
        run_child(lambda context: {})
    configure_logging("noop", "WARNING")
    settings = PlatformSettings()  # pyright: ignore[reportCallIssue]
    database = Database(settings.database_url)
    run_worker(NoopHandler(), create_app("noop", ready=database.ready), settings, database, url=sys.argv[1])
