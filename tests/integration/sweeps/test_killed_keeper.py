"""A keeper that is killed in the middle of a sweep.

Stands in a file of its own that runs first: a keeper that another test left running would be the elected one.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

from libs.common.db.tables import CheckpointRow, JobRow, SweepRunRow
from model_training.contracts.jobs import JobState
from model_training.contracts.sweeps import RunState, SweepCreate
from tests.integration.pipelines.conftest import Lab, kill, wait_until
from tests.integration.sweeps.conftest import ended, upload, wanted


@pytest.mark.slow
def test_a_keeper_that_is_killed_neither_loses_nor_repeats_a_trial(lab: Lab, tmp_path: Path) -> None:
    with lab.gateway() as first:
        body = wanted(upload(lab, tmp_path), seeds=[0, 1, 2], finalists=2, metadata={"team": "search"})
        body["search"] = {"learning_rate": [0.0003, 0.003, 0.009], "lora_r": [8, 13]}
        with lab.client() as client:
            sweep = client.sweeps.create(SweepCreate.model_validate(body))
            assert [t.state for t in sweep.trials] == [RunState.WAITING] * 6
            wait_until(lambda: client.sweeps.get(sweep.id).progress.step >= 2)
        kill(first)
    with lab.gateway():
        sweep = ended(lab, sweep.id)
    assert sweep.state == JobState.SUCCEEDED, sweep.error
    best = sweep.best
    assert best is not None
    assert (best.settings, best.losses) == (
        {"learning_rate": 0.0003, "lora_r": 8},
        {"0": 1.0, "1": 1.01, "2": 1.02},
    )
    assert (best.eval_loss, best.std) == (pytest.approx(1.01), pytest.approx(0.01))
    assert best.fine_tuned_model
    states = Counter(trial.state for trial in sweep.trials)
    assert states[RunState.FAILED] == 3  # reported, and the sweep goes on
    assert states[RunState.STOPPED] >= 1
    stopped = [run for trial in sweep.trials for run in trial.runs if run.state == RunState.STOPPED]
    with lab.database.session() as session:
        runs = session.scalars(select(SweepRunRow).where(SweepRunRow.sweep_id == sweep.id)).all()
        made = session.scalars(select(JobRow).where(JobRow.meta["sweep"].astext == sweep.id)).all()
        assert sorted(run.job_id or "" for run in runs) == sorted(job.id for job in made)
        assert all(job.meta["team"] == "search" for job in made)
        for run in stopped:
            job = session.get_one(JobRow, run.job_id or "")
            assert job.state == JobState.CANCELLED
            assert job.error is not None
            assert job.error["code"] == "stopped_early"
            assert "is not among the best" in job.error["message"]
            kept = select(CheckpointRow.id).where(CheckpointRow.job_id == job.id)
            assert session.scalars(kept).all()
