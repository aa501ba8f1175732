"""Trackers that get a job's metrics as well, tried without a network. Each is skipped where it is not installed."""

from __future__ import annotations

import os
from collections.abc import Callable
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
