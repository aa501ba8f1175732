"""From what was asked to what is applied, with the reason for every difference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from libs.common.errors import JobFailure
from libs.common.training.plan import DataFacts, MachineFacts, Plan, Planner
from model_training.config.training_config import TrainingConfig

CPU = MachineFacts(cuda=False, fast_bf16=True)
SHORT = DataFacts(train_rows=300, validation_rows=30)


def plan(machine: MachineFacts = CPU, data: DataFacts = SHORT, **config: Any) -> Plan:
    return Planner(TrainingConfig(check_machine=False, **config), machine, data).plan()


def applied(made: Plan) -> dict[str, tuple[Any, Any]]:
    assert all(setting.reason for setting in made.effective)
    return {setting.field: (setting.asked, setting.applied) for setting in made.effective}


def test_the_rows_of_a_step_are_what_was_asked() -> None:
    made = plan(batch_size=4, gradient_accumulation=4)
    assert (made.batch_size, made.gradient_accumulation) == (16, 1)
    assert applied(made)["batch_size"] == (4, 16)
    assert made.steps == 2 * 19  # ceil(300 / 16) twice


@pytest.mark.parametrize(
    ("machine", "asked", "precision"),
    [
        (MachineFacts(cuda=False, fast_bf16=True), {}, "bf16"),
        (MachineFacts(cuda=False, fast_bf16=False), {}, "fp32"),
        (MachineFacts(cuda=True, fast_bf16=False), {}, "fp16"),
        (CPU, {"bf16": False, "fp16": False}, "fp32"),
        (MachineFacts(cuda=False, fast_bf16=False), {"bf16": True}, "bf16"),
    ],
)
def test_precision(machine: MachineFacts, asked: dict[str, Any], precision: str) -> None:
    assert plan(machine, **asked).precision == precision


def test_max_steps_bounds_everything() -> None:
    made = plan(max_steps=7, warmup_ratio=0.1)
    assert (made.steps, made.eval_steps, made.save_steps, made.warmup_steps) == (7, 7, 7, 1)
    assert applied(made)["eval_steps"] == (20, 7)


def test_without_validation_rows_nothing_stops_early() -> None:
    made = plan(data=DataFacts(300, 0))
    assert made.patience == 0
    assert applied(made)["early_stopping_patience"] == (3, 0)


GPU = MachineFacts(cuda=True, fast_bf16=True, flash_attention=True, unsloth=True)


@pytest.mark.parametrize(
    ("machine", "asked", "expected"),
    [
        (CPU, {}, ("transformers", "sdpa", False)),
        (GPU, {}, ("unsloth", "sdpa", True)),
        (GPU, {"backend": "transformers"}, ("transformers", "flash_attention_2", True)),
        (replace(GPU, unsloth=False), {}, ("transformers", "flash_attention_2", True)),
        (GPU, {"device": "cpu"}, ("transformers", "sdpa", False)),
        (CPU, {"packing": True, "attention": "eager"}, ("transformers", "eager", True)),
        (CPU, {"model_name": "gemma-2-2b"}, ("transformers", "eager", False)),
        (CPU, {"model_name": "gemma-2-2b", "attention": "sdpa"}, ("transformers", "eager", False)),
    ],
)
def test_what_trains(machine: MachineFacts, asked: dict[str, Any], expected: tuple[Any, ...]) -> None:
    made = plan(machine, **asked)
    assert (made.backend, made.attention, made.packing) == expected
    differing = {name for name, value in zip(("backend", "attention", "packing"), expected, strict=True)
                 if asked.get(name, "auto") != value}  # fmt: skip
    assert differing <= applied(made).keys()


def test_unsloth_without_a_gpu_is_refused() -> None:
    with pytest.raises(JobFailure, match="backend = unsloth") as failure:
        plan(backend="unsloth")
    assert failure.value.error.blame == "user"
