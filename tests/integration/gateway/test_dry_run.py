"""A dry run creates nothing, names every refusal at once, and its figures come near to what jobs take."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import func, select

from libs.common.db.engine import Database
from libs.common.db.tables import JobRow
from libs.common.ids import new_id
from model_training.config.training_config import TrainingConfig
from model_training.contracts.dry_runs import DryRun
from model_training.contracts.jobs import JobKind, JobState
from tests.integration.gateway.conftest import RunningGateway

ROWS = [{"question": f"What is {n} + {n}?", "answer": f"It is {2 * n}."} for n in range(200)]

CONFIG = TrainingConfig.create_default().model_dump(mode="json")


@pytest.fixture
def training_file(gateway: RunningGateway) -> str:
    content = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    with gateway.http() as http:
        answer = http.post(
            "/v1/files", files={"file": ("train.jsonl", content)}, data={"purpose": "fine-tune"}
        )
    return answer.json()["id"]


def ask(gateway: RunningGateway, **body: Any) -> DryRun:
    with gateway.http() as http:
        answer = http.post("/v1/fine_tuning/jobs?dry_run=true", json=body)
    assert answer.status_code == 200, answer.text
    return DryRun.model_validate(answer.json())


def jobs_of(database: Database) -> int:
    with database.session() as session:
        return session.scalar(select(func.count()).select_from(JobRow)) or 0


def test_what_a_job_would_do_without_creating_it(
    gateway: RunningGateway, database: Database, training_file: str
) -> None:
    before = jobs_of(database)
    answer = ask(
        gateway,
        model="gemma-3-270m",
        training_file=training_file,
        training={"batch_size": 8, "gradient_accumulation": 2, "epochs": 3, "learning_rate": 1e-4},
    )
    assert jobs_of(database) == before
    assert [refusal for refusal in answer.refusals if refusal.code != "model_not_prepared"] == []
    assert answer.config is not None
    assert (answer.config["learning_rate"], answer.config["epochs"]) == (1e-4, 3)
    changed = {setting.field: (setting.asked, setting.applied) for setting in answer.effective}
    assert changed["batch_size"] == (8, 16)
    assert all(setting.reason for setting in answer.effective)
    assert answer.data is not None
    assert (answer.data.rows, answer.data.train_rows, answer.data.validation_rows) == (200, 180, 20)
    assert (answer.data.rows_per_step, answer.data.steps) == (16, 36)
    for estimate in (answer.memory_bytes, answer.time_s, answer.cost_usd):
        assert estimate is not None
        assert 0 < estimate.low < estimate.expected < estimate.high
        assert estimate.basis


def test_every_refusal_is_named_at_once(gateway: RunningGateway, database: Database) -> None:
    before = jobs_of(database)
    answer = ask(
        gateway,
        model="gemma-3-270m",
        training_file="file_none",
        validation_file="file_nothing",
        training={"learning_rate": -1, "lora_r": 0, "lerning": 3, "load_in_4bit": True, "save_steps": 7},
    )
    assert not answer.accepted
    assert {refusal.param for refusal in answer.refusals} >= {
        "learning_rate", "lora_r", "lerning", "save_steps", "training_file", "validation_file",
    }  # fmt: skip
    assert all(refusal.message for refusal in answer.refusals)
    assert jobs_of(database) == before


def test_a_refusal_that_only_the_trainer_knows_is_named_too(
    gateway: RunningGateway, training_file: str
) -> None:
    answer = ask(
        gateway,
        model="gemma-3-270m",
        training_file=training_file,
        training={"backend": "unsloth", "check_machine": False},
    )
    assert "backend" in {refusal.param for refusal in answer.refusals}
    assert not answer.accepted
    unknown = ask(gateway, model="gemma-3-270mm", training_file=training_file)
    [refusal] = unknown.refusals
    assert refusal.param == "model"
    assert "gemma-3-270m" in (refusal.hint or "")
    assert unknown.time_s is None


def test_what_earlier_jobs_took_is_what_is_expected(
    gateway: RunningGateway, database: Database, training_file: str
) -> None:
    """Two jobs that ran at 50 and 100 tokens/s, spent ten seconds beside, and held twice the memory of the arithmetic."""
    wanted = {"model": "gemma-3-1b", "training_file": training_file}
    first = ask(gateway, **wanted)
    assert first.time_s is not None
    assert first.memory_bytes is not None
    assert first.data is not None
    assert "no job of this base has been measured yet" in first.time_s.basis
    with database.session() as session:
        for rate in (50.0, 100.0):
            session.add(_finished(training_file, rate))
    second = ask(gateway, **wanted)
    assert second.time_s is not None
    assert second.memory_bytes is not None
    assert second.data is not None
    assert "2 earlier jobs of this base" in second.time_s.basis
    assert second.data.tokens == pytest.approx(180 * 10, rel=0.02)  # ten tokens a row, as the jobs found
    trained = 2 * second.data.tokens
    assert trained / 75 + 10 < second.time_s.expected < 1.2 * trained / 75 + 10  # and two validations
    assert second.time_s.low < 1.2 * trained / 100 + 10
    assert second.time_s.high > trained / 50 + 10
    machine = first.memory_bytes.expected * 2
    assert second.memory_bytes.expected == pytest.approx(machine, rel=0.15)


def _finished(training_file: str, tokens_per_s: float) -> JobRow:
    tokens = {"tokens": 1800, "supervised_tokens": 600}
    result = {
        "metrics": {
            "tokens_per_s": tokens_per_s,
            "duration_s": 10 + 4000 / tokens_per_s,
            "peak_memory_bytes": 2e9,
        },
        "data": {"train": tokens, "validation": {"tokens": 200, "supervised_tokens": 60}},
        "took": {
            "work_tokens": 4000.0,
            "expected_memory_bytes": 1e9,
            "machine": {"cuda": False, "fast_bf16": True, "threads": 2},
        },
    }
    spec = {"model": "gemma-3-1b", "training_file": training_file, "config": CONFIG, "seed": 0}
    return JobRow(
        id=new_id("ftjob"), project_id="proj_default", kind=JobKind.TRAIN.value, state=JobState.SUCCEEDED.value,
        spec=spec, result=result, meta={}, progress={},
        finished_at=func.now(),
    )  # fmt: skip
