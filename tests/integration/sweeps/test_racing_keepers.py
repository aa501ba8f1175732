"""Several keepers at once: one is elected, the others have lost the lock and do not know it yet.

That is what a keeper is that was stopped for so long that PostgreSQL gave its lock to another one, at the moment it wakes
up. Whatever they do to each other, each step and each trial is started once.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from libs.common.db.tables import JobEventRow, JobRow, OutboxRow, PipelineStepRow, SweepRunRow
from libs.common.jobs.keeper import Keeper
from libs.common.jobs.pipelines import PipelineDriver
from libs.common.jobs.queue import make_celery, ring
from libs.common.jobs.sweeps import SweepDriver
from model_training.contracts.jobs import JobState
from model_training.contracts.pipelines import PipelineCreate
from model_training.contracts.sweeps import SweepCreate
from services.gateway.service import steps, sweeps
from tests.integration.pipelines.conftest import Lab, wait_until
from tests.integration.sweeps.conftest import ended, upload, wanted

RACERS = 3


class Deluded(Keeper):
    """A keeper that takes itself for the elected one."""

    def _elect(self, connection: Connection) -> bool:
        return True


def keeper_of(lab: Lab) -> Keeper:
    """A keeper with every duty, in a hurry."""
    pipelines = PipelineDriver(lab.database, steps.starter(lambda: 3), steps.result_of)
    searches = SweepDriver(lab.database, sweeps.starter(lambda: 3))
    return Deluded(
        lab.database,
        partial(ring, make_celery(lab.env["MT_BROKER_URL"])),
        interval_s=0.01,
        sweep_every_s=0.05,
        ring_again_after_s=0.2,
        duties=[pipelines.drive, searches.drive],
        duties_every_s=0.01,
    )


def chain(file: str) -> PipelineCreate:
    """Three trainings side by side, and one after each of them."""

    def step(name: str, after: str | None) -> dict[str, Any]:
        body: dict[str, Any] = {"model": "gemma-3-270m", "training_file": file, "metadata": {"step": name}}
        if after is not None:
            body["metadata"]["after"] = f"{{{{ steps.{after}.id }}}}"
        return {"name": name, "kind": "train", "body": body}

    many = [step(f"first{n}", None) for n in range(3)] + [step(f"then{n}", f"first{n}") for n in range(3)]
    return PipelineCreate.model_validate({"name": "race", "steps": many, "reuse": False})


def test_keepers_that_race_start_each_step_and_each_trial_once(
    lab: Lab, gateway: object, tmp_path: Path
) -> None:
    file = upload(lab, tmp_path)
    racers = [keeper_of(lab) for _ in range(RACERS)]
    for racer in racers:
        racer.start()
    try:
        with lab.client() as client:
            body = wanted(file, seeds=[0, 1], finalists=2, max_parallel=4)
            sweep_id = client.sweeps.create(SweepCreate.model_validate(body)).id
            pipeline_id = client.pipelines.create(chain(file)).id
            sweep = ended(lab, sweep_id)
            wait_until(lambda: client.jobs.get(pipeline_id).state == JobState.SUCCEEDED)
        wait_until(lambda: _is_empty(lab))
    finally:
        for racer in racers:
            racer.stop()
    assert sweep.state == JobState.SUCCEEDED, sweep.error
    with lab.database.session() as session:
        made = session.scalars(select(JobRow.id).where(JobRow.meta["sweep"].astext == sweep_id)).all()
        runs = session.scalars(select(SweepRunRow.job_id).where(SweepRunRow.sweep_id == sweep_id)).all()
        assert sorted(made) == sorted(run for run in runs if run is not None)
        of_steps = session.scalars(select(JobRow.id).where(JobRow.pipeline_id == pipeline_id)).all()
        named = select(PipelineStepRow.job_id).where(PipelineStepRow.pipeline_id == pipeline_id)
        assert sorted(of_steps) == sorted(job or "" for job in session.scalars(named))
        assert len(of_steps) == 6
        for job_id in (*made, *of_steps, sweep_id, pipeline_id):
            told = session.scalars(select(JobEventRow).where(JobEventRow.job_id == job_id)).all()
            assert sorted(event.sequence for event in told) == list(range(1, len(told) + 1))
            assert sum(event.data.get("state") == "queued" for event in told) == 1


def _is_empty(lab: Lab) -> bool:
    with lab.database.session() as session:
        return session.scalar(select(func.count()).select_from(OutboxRow)) == 0
