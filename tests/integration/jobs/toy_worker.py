"""A worker process for tests of the runtime: the real loop around the toy child."""

from __future__ import annotations

import sys
from typing import Any

from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import JobRow
from libs.common.errors import InvalidInput
from libs.common.jobs import events
from libs.common.jobs.worker import run_worker
from libs.common.service import create_app
from libs.common.settings import PlatformSettings
from libs.common.telemetry import configure_logging
from model_training.contracts.jobs import JobKind


class ToyHandler:
    """Records every output as an event, so that tests can see what landed."""

    kind = JobKind.INDEX
    child_module = "tests.integration.jobs.toy_child"

    def prepare(self, session: Session, job: JobRow) -> dict[str, Any]:
        if job.spec.get("fault") == "unpreparable":
            raise InvalidInput("The job names a file that is gone.", param="file")
        return job.spec

    def store(self, session: Session, job: JobRow, name: str, data: dict[str, Any]) -> None:
        events.append(session, job, name, type="stored", data=data)

    def finish(self, session: Session, job: JobRow, result: dict[str, Any]) -> dict[str, Any]:
        return {**result, "published": True}


if __name__ == "__main__":
    configure_logging("toy")
    settings = PlatformSettings()  # pyright: ignore[reportCallIssue]
    database = Database(settings.database_url)
    run_worker(ToyHandler(), create_app("toy", ready=database.ready), settings, database, url=sys.argv[1])
