"""Trackers that get a job's metrics as well, tried without a network. Each is skipped where it is not installed."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.trainer.domain import TrainOrder
from tests.unit.trainer.attempts import Job

MakeOrder = Callable[..., TrainOrder]
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Surroundings:
    """Environment variables of an attempt."""

    values: dict[str, str]

    def __call__(self) -> None:
        os.environ.update(self.values)


def test_tensorboard_gets_the_losses(tiny_order: MakeOrder, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    attempt = Job(tiny_order(report_to=["tensorboard"]), tmp_path / "job").attempt(
        before=Surroundings({"TENSORBOARD_LOGGING_DIR": str(tmp_path / "runs")})
    )
    assert attempt.result is not None, attempt.failure
    events = EventAccumulator(str(tmp_path / "runs")).Reload()
    found = {event.step: event.value for event in events.Scalars("train/loss")}
    assert found == pytest.approx({step: values["loss"] for step, values in attempt.points.items()}, rel=1e-4)
    assert {event.step for event in events.Scalars("eval/loss")} == {
        step for step, values in attempt.points.items() if "eval_loss" in values
    }


def test_mlflow_gets_the_losses_and_the_settings(tiny_order: MakeOrder, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    attempt = Job(tiny_order(report_to=["mlflow"]), tmp_path / "job").attempt(
        before=Surroundings({"MLFLOW_TRACKING_URI": store, "MLFLOW_EXPERIMENT_NAME": "ours"})
    )
    assert attempt.result is not None, attempt.failure
    client = mlflow.MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("ours").experiment_id])
    found = {point.step: point.value for point in client.get_metric_history(run.info.run_id, "loss")}
    assert found == pytest.approx({step: values["loss"] for step, values in attempt.points.items()}, rel=1e-4)
    assert run.info.status == "FINISHED"
    assert float(run.data.params["learning_rate"]) > 0


def test_wandb_keeps_a_run_without_a_network(tiny_order: MakeOrder, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    attempt = Job(tiny_order(report_to=["wandb"]), tmp_path / "job").attempt(
        before=Surroundings({"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"})
    )
    assert attempt.result is not None, attempt.failure
    (kept,) = tmp_path.rglob("run-*.wandb")
    assert b"train/loss" in kept.read_bytes()


def test_trackio_gets_the_losses(tiny_order: MakeOrder, tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    attempt = Job(tiny_order(report_to=["trackio"]), tmp_path / "job").attempt(
        before=Surroundings({"TRACKIO_DIR": str(tmp_path / "trackio")})
    )
    assert attempt.result is not None, attempt.failure
    (kept,) = (tmp_path / "trackio").glob("*.db")
    with closing(sqlite3.connect(kept)) as database:
        logged = [json.loads(values) for (values,) in database.execute("SELECT metrics FROM metrics")]
    # Its own steps count what is logged; ours are in the values.
    found = {values["train/global_step"]: values["train/loss"] for values in logged if "train/loss" in values}
    assert found == pytest.approx({step: values["loss"] for step, values in attempt.points.items()}, rel=1e-4)
