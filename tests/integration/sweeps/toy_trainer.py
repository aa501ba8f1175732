"""A trainer of made-up losses: `learning_rate` decides how good a trial is, the seed adds a little. Real claims and fences.

Each job takes 8 steps with an evaluation after every second. A `lora_r` of 13 fails.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import ArtifactRow, CheckpointRow, JobMetricRow, JobRow, ModelRow
from libs.common.ids import new_id
from libs.common.jobs import events, scheduling, transitions
from libs.common.settings import PlatformSettings
from model_training.contracts.jobs import JobError, JobKind

STEPS = 8
STEP_S = 0.05
LEAVING = threading.Event()


def loss_of(job: JobRow, step: int) -> float:
    """Best at a learning rate of 0.0003."""
    config = job.spec["config"]
    distance = abs(config["learning_rate"] - 0.0003) * 1000
    return 1.0 + distance + 0.01 * job.spec["seed"] + (STEPS - step) * 0.05


def work(database: Database, lease_s: float) -> None:
    """Take jobs until the process is told to stop."""
    while not LEAVING.wait(0.05):
        with database.session() as session:
            job = scheduling.claim(session, JobKind.TRAIN, "toy", lease_s)
        if job is not None:
            train(database, job, lease_s)


def train(database: Database, job: JobRow, lease_s: float) -> None:
    """Count, evaluate, honour stops, publish."""
    for step in range(1, STEPS + 1):
        # Losers take their time, so that they are stopped before they have ended however seldom the driver looks.
        time.sleep(STEP_S if loss_of(job, STEPS) < 1.1 else 4 * STEP_S)
        with database.session() as session:
            row = transitions.fenced(session, job.id, job.fence)
            if transitions.heartbeat(session, row.id, row.fence, lease_s) is not None:
                return transitions.stopped(session, row)
            if job.spec["config"]["lora_r"] == 13:
                error = JobError(code="bad_luck", message="13 brings no luck.", blame="user")
                return transitions.fail(session, row, error)
            row.progress = {"fraction": step / STEPS, "step": step, "total": STEPS}
            if step % 2 == 0:
                session.add(JobMetricRow(job_id=job.id, step=step, values={"eval_loss": loss_of(job, step)}))
                session.add(CheckpointRow(id=new_id("ckpt"), job_id=job.id, step=step, path="", metrics={}))
            events.notify(session, row.id)
    with database.session() as session:
        row = transitions.fenced(session, job.id, job.fence)
        transitions.succeed(session, row, publish(session, row))
    return None


def publish(session: Session, job: JobRow) -> dict[str, object]:
    """A model, and the loss as the trainer reports it."""
    model = new_id("model")
    session.add(ArtifactRow(sha256=f"sha-of-{model}", kind="adapter", bytes=0, job_id=job.id))
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
    return {"model_id": model, "metrics": {"eval_loss": loss_of(job, STEPS)}}


def main() -> None:
    """Two workers. SIGTERM ends them."""
    settings = PlatformSettings()  # pyright: ignore[reportCallIssue]
    database = Database(settings.database_url, pool_size=4)
    signal.signal(signal.SIGTERM, lambda *_: LEAVING.set())
    workers = [threading.Thread(target=work, args=(database, settings.lease_s)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    database.close()
    os._exit(0)


if __name__ == "__main__":
    main()
