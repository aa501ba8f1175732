"""Sweeps through HTTP on real PostgreSQL, with a trainer of made-up losses and a gateway that is killed in the middle."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from libs.common.db.engine import Database
from libs.common.db.tables import CheckpointRow, JobRow, ProjectRow, SweepRunRow
from model_training.contracts.jobs import FINAL_STATES, JobState
from model_training.contracts.sweeps import RunState, Sweep, SweepCreate
from tests.conftest import Stores, free_ports, scratch_database
from tests.integration.pipelines.conftest import KEY, Lab, kill, process, wait_until


@pytest.fixture(scope="module")
def lab(stores: Stores) -> Iterator[Lab]:
    """A database and a toy trainer, without a gateway."""
    with scratch_database(stores.settings.database_url) as url:
        own = Database(url)
        with own.session() as session:
            session.add(ProjectRow(id="proj_default", name="default"))
        env = {
            **stores.environment,
            "MT_DATABASE_URL": url,
            "MT_BROKER_URL": stores.settings.broker_url.rpartition("/")[0] + "/2",
            "MT_BOOTSTRAP_API_KEY": KEY,
        }
        with process("tests.integration.sweeps.toy_trainer", env=env):
            yield Lab(env, stores.home, own, f"http://127.0.0.1:{free_ports(1)}")
        own.close()


@pytest.fixture(scope="module")
def gateway(lab: Lab) -> Iterator[subprocess.Popen[bytes]]:
    with lab.gateway() as running:
        yield running


def upload(lab: Lab, directory: Path) -> str:
    path = directory / "train.jsonl"
    path.write_text('{"question": "q", "answer": "a"}\n', encoding="utf-8")
    with lab.client() as client:
        return client.files.upload(path, "fine-tune").id


def wanted(file: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "test",
        "model": "gemma-3-270m",
        "training_file": file,
        "config": {"epochs": 1},
        "search": {"learning_rate": [0.0003, 0.003, 0.006, 0.009]},
        **more,
    }


def ended(lab: Lab, sweep_id: str) -> Sweep:
    with lab.client() as client:
        wait_until(lambda: client.jobs.get(sweep_id).state in FINAL_STATES, 60)
        return client.sweeps.get(sweep_id)


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


def test_what_is_wrong_is_refused_whole(lab: Lab, gateway: subprocess.Popen[bytes], tmp_path: Path) -> None:
    file = upload(lab, tmp_path)
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"search": {"learning_rate": [0.001, -1]}}, "search.learning_rate", "-1"),
        ({"search": {"nonsense": [1]}}, "search.nonsense", "1"),
        ({"config": {"epochs": 0}}, "config.epochs", "0"),
        ({"config": {"learning_rate": 0.1}}, "search.learning_rate", "0.1"),
        (
            {"config": {"validation_fraction": 0, "early_stopping_patience": 0}},
            "config.validation_fraction",
            "0",
        ),
        ({"search": {"seed": [1, 2]}}, "search.seed", "seeds"),
        ({"search": {"max_length": [64, 128]}}, "search.max_length", "compared"),
        ({"search": {"learning_rate": {"low": 0.1, "high": 0.2}}}, "search.learning_rate", "trials"),
        ({"search": {"lora_r": list(range(1, 99)), "epochs": [1, 2]}}, "search", "196 combinations"),
        ({"trials": 5}, "trials", "only 4"),
        ({"training_file": "file_nope"}, "training_file", "file_nope"),
    ]
    with lab.http() as http:
        for change, param, words in cases:
            answer = http.post("/v1/sweeps", json=wanted(file, **change))
            assert answer.status_code in (400, 404), (change, answer.text)
            problem = answer.json()
            assert problem["param"] == param, (change, problem)
            assert words in problem["detail"] + (problem["hint"] or ""), problem
        again = {"Idempotency-Key": "once"}
        once = [http.post("/v1/sweeps", json=wanted(file), headers=again).json()["id"] for _ in range(2)]
        assert once[0] == once[1]
        assert http.post(f"/v1/sweeps/{once[0]}/cancel").status_code == 200
        listed = http.get("/v1/sweeps").json()["data"]
        assert once[0] in [sweep["id"] for sweep in listed]
    assert ended(lab, once[0]).state == JobState.CANCELLED
    with lab.database.session() as session:
        sweeps = session.scalars(select(JobRow.id).where(JobRow.kind == "sweep")).all()
        jobs = session.scalars(select(JobRow).where(JobRow.kind == "train")).all()
    assert len(sweeps) == len(listed)
    assert all("sweep" in job.meta for job in jobs), "a refused sweep has left a job"


def test_a_sweep_is_paused_and_fails_when_every_trial_does(
    lab: Lab, gateway: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    body = wanted(upload(lab, tmp_path), search={"lora_r": [13], "lora_alpha": [16, 32]}, max_parallel=1)
    with lab.http() as http, lab.client() as client:
        sweep_id = http.post("/v1/sweeps", json=body).raise_for_status().json()["id"]
        paused: httpx.Response = http.post(f"/v1/jobs/{sweep_id}/pause")
        assert paused.status_code in (200, 409)
        if paused.status_code == 200:
            wait_until(lambda: client.jobs.get(sweep_id).state == JobState.PAUSED)
            client.jobs.resume(sweep_id)
    sweep = ended(lab, sweep_id)
    assert sweep.state == JobState.FAILED
    assert sweep.error is not None
    assert "None of 2 trials ran to its end" in sweep.error.message
    assert "13 brings no luck" in sweep.error.message
