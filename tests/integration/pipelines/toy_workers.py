"""A worker that stands in for the four services: real claims and fences, and results that exist in the database.

One process with a thread for each kind, which looks for jobs instead of hearing the doorbell and does their work itself
instead of spawning children: dozens of Python processes would take longer to start than all tests to run. What a job does
is said by files in the data directory, so that its spec, and with it the hash of its inputs, stays the same:
`toys/KIND.fault` makes it fail with that text, `toys/KIND.seconds` says how long it takes.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import ArtifactRow, FileRow, IndexRow, JobRow, ModelRow
from libs.common.ids import new_id
from libs.common.jobs import events, scheduling, transitions
from libs.common.settings import PlatformSettings
from model_training.contracts.jobs import JobError, JobKind

KINDS = (JobKind.INDEX, JobKind.TRAIN, JobKind.EVALUATE, JobKind.COMPARE)
LEAVING = threading.Event()
TURN_S = 0.05


class ToyWorker:
    """Takes jobs of one kind: counts, honours stops, and publishes an index, a model or a report."""

    def __init__(self, kind: JobKind, database: Database, settings: PlatformSettings) -> None:
        self._kind = kind
        self._database = database
        self._lease_s = settings.lease_s
        self._toys = settings.home / "toys"

    def run(self) -> None:
        """Take jobs until the process is told to stop."""
        while not LEAVING.wait(TURN_S):
            with self._database.session() as session:
                job = scheduling.claim(session, self._kind, f"toy-{self._kind.value}", self._lease_s)
            if job is not None:
                self._work(job)

    def _work(self, job: JobRow) -> None:
        seconds, started = float(self._said("seconds") or 0.0), time.monotonic()
        while (past := time.monotonic() - started) < seconds:
            with self._database.session() as session:
                row = transitions.fenced(session, job.id, job.fence)
                row.progress = {"fraction": past / seconds}
                events.notify(session, row.id)
                if transitions.heartbeat(session, row.id, row.fence, self._lease_s) is not None:
                    return transitions.stopped(session, row)
            time.sleep(TURN_S)
        with self._database.session() as session:
            row = transitions.fenced(session, job.id, job.fence)
            if fault := self._said("fault"):
                error = JobError(code="bad_data", message=fault, blame="user", hint="Mend row 3.")
                return transitions.fail(session, row, error)
            return transitions.succeed(session, row, _publish(session, row, self._kind))

    def _said(self, what: str) -> str:
        path = self._toys / f"{self._kind.value}.{what}"
        return path.read_text(encoding="utf-8") if path.exists() else ""


def _publish(session: Session, job: JobRow, kind: JobKind) -> dict[str, Any]:
    match kind:
        case JobKind.INDEX:
            stamp = {"files": [session.get_one(FileRow, id).sha256 for id in job.spec["files"]]}
            name: str = job.spec["name"]
            session.add(IndexRow(id=job.id, project_id=job.project_id, name=name, chunks=1, stamp=stamp))
            return {"chunks": 1, "dimension": 4}
        case JobKind.TRAIN:
            model = new_id("model")
            session.add(_artifact(job, model, "adapter"))
            session.flush()
            session.add(
                ModelRow(
                    id=model,
                    project_id=job.project_id,
                    base=job.spec["model"],
                    artifact=f"sha-of-{model}",
                    job_id=job.id,
                    state="servable",
                )
            )
            return {"model_id": model, "artifact": f"sha-of-{model}"}
        case JobKind.COMPARE:
            session.add(_artifact(job, job.id, "report"))
            return {"artifact": f"sha-of-{job.id}", "verdict": {"recommended": None}}
        case _:
            return {"n": 0, "correct": 0, "suites": []}


def _artifact(job: JobRow, name: str, kind: str) -> ArtifactRow:
    return ArtifactRow(sha256=f"sha-of-{name}", kind=kind, bytes=0, job_id=job.id)


def main() -> None:
    """Run a thread for each kind. SIGTERM ends it."""
    settings = PlatformSettings()  # pyright: ignore[reportCallIssue]
    database = Database(settings.database_url, pool_size=10)
    signal.signal(signal.SIGTERM, lambda *_: LEAVING.set())
    threads = [threading.Thread(target=ToyWorker(kind, database, settings).run) for kind in KINDS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.close()


if __name__ == "__main__":
    main()
