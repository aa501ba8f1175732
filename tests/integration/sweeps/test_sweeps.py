"""Sweeps through HTTP on real PostgreSQL, with a trainer of made-up losses."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from libs.common.db.tables import JobRow
from model_training.contracts.jobs import JobState
from tests.integration.pipelines.conftest import Lab, wait_until
from tests.integration.sweeps.conftest import ended, upload, wanted


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
    assert all("sweep" in job.meta or job.pipeline_id for job in jobs), "a refused sweep has left a job"


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
