"""Drivers that race, drivers that die, and keepers that are killed: no step is lost, none is done twice.

These stand in a file of their own that runs first: a gateway that another test left running would be the elected one.
"""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import select

from libs.common.db.tables import JobEventRow, JobRow, PipelineStepRow
from libs.common.jobs import transitions
from libs.common.jobs.keeper import Keeper
from libs.common.jobs.pipeline_turn import Started
from libs.common.jobs.pipelines import PipelineDriver
from model_training.contracts.jobs import JobKind, JobState
from services.gateway.service import steps
from tests.integration.pipelines.chains import STEPS, Upload, chain, jobs_of
from tests.integration.pipelines.conftest import Lab, kill, wait_until


def test_two_drivers_at_once_start_each_step_once(lab: Lab) -> None:
    """Without election: drivers that race each other, and one that dies in the middle of every start."""
    started: list[str] = []

    def start(session: Any, pipeline: JobRow, step: PipelineStepRow, body: dict[str, Any]) -> Started:
        job = transitions.create(session, JobKind.COMPARE, pipeline.project_id, body, pipeline_id=pipeline.id)
        session.flush()
        started.append(step.name)
        if threading.current_thread().name == "dying":
            raise SystemExit
        job.state, job.result = JobState.SUCCEEDED.value, {}
        return Started(job, False, None)

    with lab.database.session() as session:
        spec = {"files": {}, "retry_of": None, "reuse": True, "name": "race", "steps": []}
        pipeline_id = transitions.create(session, JobKind.PIPELINE, "proj_default", spec).id
        for n in range(6):
            needs = [f"s{n - 1}"] if n % 2 else []
            row = PipelineStepRow(pipeline_id=pipeline_id, name=f"s{n}", position=n, kind="compare")
            row.depends_on, row.spec, row.state, row.reused = needs, {}, "waiting", False
            session.add(row)
    driver = PipelineDriver(lab.database, start, lambda job: {"id": job.id})
    ended = threading.Event()

    def drive() -> None:
        while not ended.is_set():
            try:
                driver.drive()
            except SystemExit:
                continue

    threads = [threading.Thread(target=drive, name=name) for name in ("dying", "one", "two")]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: _state(lab, pipeline_id) == JobState.SUCCEEDED)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert jobs_of(lab, pipeline_id) == 6
    with lab.database.session() as session:
        page = session.scalars(select(JobEventRow.sequence).where(JobEventRow.job_id == pipeline_id))
        assert sorted(page) == list(range(1, 3 + 2 * 6 + 1))


def _state(lab: Lab, job_id: str) -> str:
    with lab.database.session() as session:
        return session.get_one(JobRow, job_id).state


def test_a_killed_keeper_leaves_nothing_undone_and_nothing_twice(lab: Lab, files: Upload) -> None:
    """One keeps, and a second keeper waits. kill -9 between steps: the second one goes on where it was."""
    lab.set("train", seconds=1.0)
    driver = PipelineDriver(lab.database, steps.starter(lambda: 3), steps.result_of)
    heir = Keeper(lab.database, lambda queue, ids: None, duties=[driver.drive])
    with lab.gateway() as keeper, lab.client() as client:
        pipeline_id = client.pipelines.create(chain(files(client))).id
        wait_until(lambda: client.pipelines.get(pipeline_id).steps[1].job_state == JobState.RUNNING)
        heir.start()
        kill(keeper)
    try:
        wait_until(lambda: _state(lab, pipeline_id) == JobState.SUCCEEDED)
    finally:
        heir.stop()
    assert jobs_of(lab, pipeline_id) == 4
    with lab.database.session() as session:
        page = session.scalars(
            select(JobEventRow).where(JobEventRow.job_id == pipeline_id).order_by(JobEventRow.sequence)
        ).all()
    assert [event.sequence for event in page] == list(range(1, len(page) + 1))
    said = [event.message.partition(" (")[0].partition(" as ")[0] for event in page if event.type == "step"]
    assert sorted(said) == sorted(f"Step {step} {what}" for step in STEPS for what in ("starts", "succeeded"))
