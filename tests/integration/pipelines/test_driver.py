"""The driver on a real database, without workers: random graphs, random ends of jobs, random wishes of users.

Runs before any gateway of these tests is there, like `test_crashes`: its driver would take part.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from libs.common.db.tables import JobEventRow, JobRow, PipelineStepRow, ProjectRow
from libs.common.errors import IllegalTransition, InvalidInput, Overloaded
from libs.common.jobs import transitions
from libs.common.jobs.pipeline_turn import Started
from libs.common.jobs.pipelines import PipelineDriver
from model_training.contracts.jobs import FINAL_STATES, JobError, JobKind, JobState
from model_training.contracts.pipelines import StepState
from tests.integration.pipelines.conftest import Lab

TURNS = 400


class Chaos:
    """One pipeline and everybody who has to do with it, played by a seeded random generator."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.random = random.Random(seed)
        self.database = lab.database
        self.driver = PipelineDriver(lab.database, self.start, lambda job: {"id": job.id})
        self.started: list[str] = []
        self.harm = self.random.choice([0.0, 0.1, 0.3])
        names = [f"s{n}" for n in range(self.random.randint(1, 7))]
        self.needs = {
            name: self.random.sample(names[:n], self.random.randint(0, min(n, 3)))
            for n, name in enumerate(names)
        }
        with lab.database.session() as session:
            session.merge(ProjectRow(id="proj_chaos", name="chaos"))
            session.flush()
            spec = {"files": {}, "retry_of": None, "reuse": True, "name": "chaos", "steps": []}
            self.id = transitions.create(session, JobKind.PIPELINE, "proj_chaos", spec).id
            for position, name in enumerate(names):
                row = PipelineStepRow(pipeline_id=self.id, name=name, position=position, kind="compare")
                row.depends_on, row.spec, row.state, row.reused = self.needs[name], {}, "waiting", False
                session.add(row)

    def start(
        self, session: Session, pipeline: JobRow, step: PipelineStepRow, body: dict[str, Any]
    ) -> Started:
        """Create a job of a kind that no worker takes; refuse or reuse now and then."""
        done = {s.name for s in self.steps(session) if s.state == StepState.SUCCEEDED}
        assert done >= set(self.needs[step.name]), f"{step.name} starts too early"
        assert pipeline.state == JobState.RUNNING
        job = transitions.create(
            session, JobKind.PIPELINE, pipeline.project_id, body, pipeline_id=pipeline.id
        )
        session.flush()
        if self.random.random() < self.harm:
            raise self.random.choice([Overloaded("Later."), InvalidInput("Never."), RuntimeError("A bug.")])
        reused = self.random.random() < 0.2
        if reused:
            job.state, job.result = JobState.SUCCEEDED.value, {}
        self.started.append(step.name)
        return Started(job, reused, None)

    def steps(self, session: Session) -> Sequence[PipelineStepRow]:
        """The pipeline's steps."""
        query = select(PipelineStepRow).where(PipelineStepRow.pipeline_id == self.id)
        return session.scalars(query.order_by(PipelineStepRow.position)).all()

    def work(self) -> None:
        """What a worker might do next to one of the jobs."""
        with self.database.session() as session:
            ids = [
                step.job_id for step in self.steps(session) if step.job_id and step.state == StepState.RUNNING
            ]
            if not ids:
                return
            job = transitions.locked(session, self.random.choice(ids))
            if job.state == JobState.QUEUED:
                transitions.start(session, job, "worker", 60.0)
            elif JobState(job.state) in transitions.HELD:
                self._go_on(session, job)

    def _go_on(self, session: Session, job: JobRow) -> None:
        if transitions.stop_of(job) is not None and self.random.random() < 0.7:
            transitions.stopped(session, job)
        elif self.random.random() < self.harm:
            transitions.fail(session, job, JobError(code="bad", message="Bad."))
        else:
            transitions.succeed(session, job, {})

    def wish(self) -> None:
        """What a user might ask of the pipeline, or of the job of one step."""
        ask = self.random.choice([transitions.request_pause, transitions.resume, transitions.request_cancel])
        with self.database.session() as session:
            ids = [self.id, *(step.job_id for step in self.steps(session) if step.job_id)]
            whose = self.id if self.random.random() < 0.7 else self.random.choice(ids)
            try:
                ask(session, transitions.locked(session, whose))
            except IllegalTransition:
                session.rollback()

    def settle(self) -> bool:
        """Whether all is over; what rests is resumed."""
        with self.database.session() as session:
            for id in (self.id, *(step.job_id for step in self.steps(session) if step.job_id)):
                job = transitions.locked(session, id)
                if job.state == JobState.PAUSED:
                    transitions.resume(session, job)
        with self.database.session() as session:
            over = JobState(session.get_one(JobRow, self.id).state) in FINAL_STATES
            return over and all(step.state != StepState.RUNNING for step in self.steps(session))

    def run(self) -> None:
        """Let everybody act in any order, then let things come to their end."""
        for _ in range(self.random.randint(5, 40)):
            act = self.random.choices(
                [self.driver.drive, self.work, self.wish], [4, 4, 1 if self.harm else 0]
            )[0]
            act()
        for _ in range(TURNS):
            if self.settle():
                return
            self.driver.drive()
            self.work()
        raise AssertionError("the pipeline does not end")


@pytest.mark.parametrize(
    "seed", [*range(8), *(pytest.param(n, marks=pytest.mark.slow) for n in range(8, 100))]
)
def test_every_pipeline_ends_as_its_steps_ended(lab: Lab, seed: int) -> None:
    chaos = Chaos(lab, seed)
    chaos.run()
    with lab.database.session() as session:
        pipeline = session.get_one(JobRow, chaos.id)
        steps = chaos.steps(session)
        states = {step.state for step in steps}
        if pipeline.state == JobState.SUCCEEDED:
            assert states == {StepState.SUCCEEDED}
        elif pipeline.state == JobState.FAILED:
            assert states & {StepState.FAILED, StepState.CANCELLED}
            assert pipeline.error is not None
        if chaos.harm == 0.0:
            assert pipeline.state == JobState.SUCCEEDED
        assert len(chaos.started) == len(set(chaos.started)), "a step was started twice"
        jobs = session.scalars(select(JobRow).where(JobRow.pipeline_id == chaos.id)).all()
        assert {job.id for job in jobs} == {step.job_id for step in steps if step.job_id}
        assert all(JobState(job.state) in FINAL_STATES for job in jobs)
        told = session.scalars(
            select(JobEventRow).where(JobEventRow.job_id == chaos.id).order_by(JobEventRow.sequence)
        ).all()
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    assert told[-1].type == "state"
