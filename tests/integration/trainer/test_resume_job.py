"""A training job whose child and worker are killed: through the real runtime it is the job that nothing happened to."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
import torch
from safetensors.torch import load_file
from sqlalchemy import func, select, update

from libs.common.artifacts import ArtifactStore
from libs.common.db.tables import CheckpointRow, JobEventRow, JobMetricRow, JobRow, ModelRow
from libs.common.jobs import transitions
from libs.common.jobs.keeper import Keeper
from libs.common.jobs.queue import make_celery, ring
from libs.common.jobs.worker import JobRunner
from model_training.contracts.jobs import FINAL_STATES, JobState
from services.trainer.main import build_handler
from tests.conftest import ROOT, Stores, free_ports
from tests.integration.trainer.conftest import DRAWS, Trainer, lines

EXACT = ("loss", "grad_norm", "learning_rate", "eval_loss", "tokens", "supervised_tokens")


class Following:
    """One job, read from the database."""

    def __init__(self, trainer: Trainer, job_id: str) -> None:
        self._trainer = trainer
        self.id = job_id

    @property
    def row(self) -> JobRow:
        with self._trainer.database.session() as session:
            return session.get_one(JobRow, self.id)

    @property
    def points(self) -> dict[int, dict[str, float]]:
        rows = self._trainer.rows(select(JobMetricRow).where(JobMetricRow.job_id == self.id))
        return {row.step: row.values for row in rows}

    @property
    def events(self) -> list[JobEventRow]:
        query = select(JobEventRow).where(JobEventRow.job_id == self.id).order_by(JobEventRow.sequence)
        return self._trainer.rows(query)

    @property
    def texts(self) -> list[str]:
        return [event.message for event in self.events]

    @property
    def checkpoints(self) -> list[CheckpointRow]:
        query = select(CheckpointRow).where(CheckpointRow.job_id == self.id).order_by(CheckpointRow.step)
        return self._trainer.rows(query)

    @property
    def adapter(self) -> dict[str, torch.Tensor]:
        [model] = self._trainer.rows(select(ModelRow).where(ModelRow.job_id == self.id))
        directory = ArtifactStore(self._trainer.settings.home / "artifacts").path(model.artifact)
        return load_file(directory / "adapter_model.safetensors")

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait for something about the job; one that ends instead is a failure that says why."""

        def is_so() -> object:
            row = self.row
            return condition() or JobState(row.state) in FINAL_STATES

        wait_for(is_so)
        assert condition(), (self.row.state, self.row.error, self.texts)


def wait_for(condition: Callable[[], object], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def keeper(stores: Stores, trainer: Trainer) -> Iterator[Keeper]:
    broker = partial(ring, make_celery(stores.settings.broker_url))
    keeper = Keeper(trainer.database, broker, sweep_every_s=0.2)
    keeper.start()
    yield keeper
    keeper.stop()


@contextmanager
def worker(trainer: Trainer, stores: Stores) -> Iterator[subprocess.Popen[bytes]]:
    """The trainer's own process."""
    url = f"http://127.0.0.1:{free_ports(1)}"
    environment = {
        **stores.environment,
        "MT_TRAINER_URL": url,
        "MT_MODEL_DIR": str(trainer.settings.model_dir),
        "MT_LEASE_S": str(trainer.settings.lease_s),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "services.trainer.main"], cwd=ROOT, env={**os.environ, **environment}
    )
    try:
        wait_for(lambda: _is_ready(url))
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def kill_child(process: subprocess.Popen[bytes]) -> None:
    [child] = psutil.Process(process.pid).children()
    child.kill()


def expire_the_lease(trainer: Trainer, job: Following) -> None:
    """As if the lease's time had passed, so that no test has to wait for it."""
    past = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, 1)
    with trainer.database.session() as session:
        session.execute(update(JobRow).where(JobRow.id == job.id).values(lease_expires_at=past))


@pytest.fixture(scope="module")
def whole(trainer: Trainer, undisturbed: str) -> Following:
    """The same job without an interruption."""
    return Following(trainer, undisturbed)


def assert_same_job(whole: Following, job: Following) -> None:
    assert job.row.state == "succeeded", job.texts
    points, expected = job.points, whole.points
    assert points.keys() == expected.keys()
    for step, values in expected.items():
        got = {name: points[step].get(name) for name in EXACT}
        assert got == {name: values.get(name) for name in EXACT}, step
    left, right = whole.adapter, job.adapter
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    result, wanted = job.row.result or {}, whole.row.result or {}
    for name in ("steps", "best_step", "trained_tokens", "early_stopped", "data"):
        assert result[name] == wanted[name], name
    assert [row.step for row in job.checkpoints] == [row.step for row in whole.checkpoints]
    assert all(Path(row.path).is_dir() for row in job.checkpoints)
    assert [event.sequence for event in job.events] == list(range(1, len(job.events) + 1))
    for once in ("before training", "rows to train on", "steps of"):
        assert sum(once in text for text in job.texts) == 1, once


def test_a_job_whose_worker_was_killed_is_the_same_job(
    trainer: Trainer, stores: Stores, keeper: Keeper, whole: Following
) -> None:
    job = Following(trainer, trainer.submit(trainer.upload(lines(30)), **DRAWS))
    kill_a_worker(trainer, stores, job, after=7)
    with worker(trainer, stores):
        wait_for(lambda: job.row.finished_at)
    assert_same_job(whole, job)
    assert any("Resuming from the checkpoint at step" in text for text in job.texts)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_after_a_killed_worker_a_killed_child_and_a_pause_it_is_the_same_job(
    trainer: Trainer, stores: Stores, keeper: Keeper, whole: Following, seed: int
) -> None:
    luck = random.Random(seed)
    first, second, third = sorted(luck.sample(range(2, len(whole.points) - 3), 3))
    job = Following(trainer, trainer.submit(trainer.upload(lines(30)), **DRAWS))
    kill_a_worker(trainer, stores, job, after=first)
    with worker(trainer, stores) as process:
        job.wait(lambda: job.row.attempt == 2 and max(job.points) >= second)
        time.sleep(luck.uniform(0, 0.1))
        kill_child(process)
        job.wait(lambda: job.row.attempt == 3 and max(job.points) >= third)
        stopped_at = pause(trainer, job)
        wait_for(lambda: not psutil.Process(process.pid).children())  # it ends once it has said so
        with trainer.database.session() as session:
            transitions.resume(session, transitions.locked(session, job.id))
        wait_for(lambda: job.row.finished_at)
    assert_same_job(whole, job)
    assert f"Resuming from the checkpoint at step {stopped_at}." in job.texts


def kill_a_worker(trainer: Trainer, stores: Stores, job: Following, *, after: int) -> None:
    """Let a worker take the job and kill it when so many steps are reported; its lease is over at once."""
    with worker(trainer, stores) as process:
        job.wait(lambda: len(job.points) >= after)
        [child] = psutil.Process(process.pid).children()
        process.kill()
        process.wait()
        child.wait(timeout=60)  # it ends itself: nothing trains on beside the next attempt
    expire_the_lease(trainer, job)


def pause(trainer: Trainer, job: Following) -> int:
    """Pause the job; returns the step that it was stopped at, which has a checkpoint."""
    with trainer.database.session() as session:
        transitions.request_pause(session, transitions.locked(session, job.id))
    job.wait(lambda: job.row.state == JobState.PAUSED.value)
    return job.checkpoints[-1].step  # an attempt before, which was killed, may have reported later steps


@pytest.mark.slow
def test_a_cancelled_job_keeps_its_checkpoints_and_makes_no_model(trainer: Trainer) -> None:
    job = Following(trainer, trainer.submit(trainer.upload(lines(30)), **DRAWS))
    runner = JobRunner(build_handler(trainer.settings), trainer.database, trainer.settings)
    thread = threading.Thread(target=runner.run, args=(job.id,))
    thread.start()
    job.wait(lambda: job.checkpoints)
    with trainer.database.session() as session:
        transitions.request_cancel(session, transitions.locked(session, job.id))
    thread.join(timeout=60)
    assert job.row.state == "cancelled"
    assert job.checkpoints
    assert all(Path(row.path).is_dir() for row in job.checkpoints)
    assert not trainer.rows(select(ModelRow).where(ModelRow.job_id == job.id))
