"""A worker process for tests of the runtime: the real loop around the toy child. It takes training jobs.

The toy's spec is the job's own, or stands as JSON in its metadata under `toy`, so that jobs made through the API work too.
Every step that is stored becomes an event, and so does publishing: an effect that happens twice is seen twice.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import JobEventRow, JobRow
from libs.common.errors import InvalidInput
from libs.common.jobs import events
from libs.common.jobs.worker import run_worker
from libs.common.service import create_app
from libs.common.settings import PlatformSettings
from libs.common.telemetry import configure_logging
from model_training.contracts.jobs import JobKind


class ToyHandler:
    """Records every output as an event, so that tests can see what landed."""

    kind = JobKind(os.environ.get("TOY_KIND", "train"))
    child_module = "tests.integration.jobs.toy_child"

    def prepare(self, session: Session, job: JobRow) -> dict[str, Any]:
        spec = json.loads(job.meta["toy"]) if "toy" in job.meta else job.spec
        if spec.get("fault") == "unpreparable" or "steps" not in spec:
            raise InvalidInput("The job names a file that is gone.", param="file")
        if spec.get("fault") == "bug_in_prepare":
            raise KeyError("nothing")
        stored = select(JobEventRow.data).where(JobEventRow.job_id == job.id, JobEventRow.type == "stored")
        return {**spec, "done": [data["step"] for data in session.scalars(stored)]}

    def store(self, session: Session, job: JobRow, name: str, data: dict[str, Any]) -> None:
        if name != "step":
            raise ValueError(f"no output is called {name!r}")
        events.append(session, job, name, type="stored", data=data)

    def finish(self, session: Session, job: JobRow, result: dict[str, Any]) -> dict[str, Any]:
        events.append(session, job, "published", type="published", data={"fence": job.fence})
        return {**result, "published": True}


if __name__ == "__main__":
    configure_logging("toy")
    settings = PlatformSettings()  # pyright: ignore[reportCallIssue]
    database = Database(settings.database_url)
    run_worker(ToyHandler(), create_app("toy", ready=database.ready), settings, database, url=sys.argv[1])
