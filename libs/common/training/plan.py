"""What a training job will do on a machine: the plan, and every setting that differs from what was asked, with the reason.

Pure rules: no torch, no database, no file is read here. The trainer plans with what it finds, the gateway's dry run with
what earlier jobs found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from libs.common.errors import JobFailure
from model_training.config.training_config import TrainingConfig
from model_training.contracts.fine_tuning import EffectiveSetting

Device = Literal["cpu", "cuda"]
Precision = Literal["bf16", "fp16", "fp32"]

PASS_TOKENS: dict[Device, int] = {"cpu": 1024, "cuda": 16_384}
"""Tokens, padding included, that go through the model at once. More of them are no faster and only take memory: on a CPU a
token of Gemma 3 270M holds 1.5 MB until its backward pass."""


@dataclass(frozen=True)
class MachineFacts:
    """What the child found: `fast_bf16` says whether bfloat16 is at least as fast as float32 here."""

    cuda: bool
    fast_bf16: bool


@dataclass(frozen=True)
class DataFacts:
    """Encoded rows: how many."""

    train_rows: int
    validation_rows: int


@dataclass(frozen=True)
class Plan:
    """The settings that training runs with. `effective` lists those that differ from what was asked, and why."""

    device: Device
    precision: Precision
    attention: str
    batch_size: int
    gradient_accumulation: int
    pass_tokens: int
    steps: int
    warmup_steps: int
    eval_steps: int
    save_steps: int
    patience: int
    effective: list[EffectiveSetting] = field(default_factory=list[EffectiveSetting])


class Planner:
    """Turns a configuration into a plan for this machine and these rows."""

    def __init__(self, config: TrainingConfig, machine: MachineFacts, data: DataFacts) -> None:
        self._config = config
        self._machine = machine
        self._data = data
        self._effective: list[EffectiveSetting] = []

    def plan(self) -> Plan:
        """The plan.

        Raises:
            JobFailure: a setting asks for what this trainer cannot do.
        """
        config = self._config
        self._refuse_unsupported()
        device: Device = "cuda" if config.device != "cpu" and self._machine.cuda else "cpu"
        batch_size, accumulation = self._batches()
        steps = self._steps(batch_size * accumulation)
        eval_steps = min(config.eval_steps, steps)
        return Plan(
            device=self._apply("device", device, "an NVIDIA GPU is used where there is one"),
            precision=self._precision(device),
            attention=self._attention(),
            batch_size=batch_size,
            gradient_accumulation=accumulation,
            pass_tokens=PASS_TOKENS[device],
            steps=steps,
            warmup_steps=math.ceil(config.warmup_ratio * steps),
            eval_steps=self._apply("eval_steps", eval_steps, f"the job has {steps} steps"),
            save_steps=self._save_steps(eval_steps, steps),
            patience=self._patience(),
            effective=self._effective,
        )

    def _apply(self, name: str, applied: Any, reason: str) -> Any:
        asked = getattr(self._config, name)
        if applied != asked:
            self._effective.append(EffectiveSetting(field=name, asked=asked, applied=applied, reason=reason))
        return applied

    def _refuse_unsupported(self) -> None:
        if self._config.load_in_4bit:
            raise JobFailure(
                "unsupported_setting",
                "load_in_4bit = True: this trainer holds the base weights in 16 or 32 bits.",
                blame="user",
                param="load_in_4bit",
                hint="Set load_in_4bit to false.",
            )
        self._apply("backend", "transformers", "the trainer runs transformers with PEFT and TRL")

    def _precision(self, device: Device) -> Precision:
        asked = self._config.precision
        if asked != "auto":
            return asked
        if self._machine.fast_bf16:
            self._apply("bf16", True, "this machine computes bfloat16 fast")
            self._apply("fp16", False, "bf16 is used")
            return "bf16"
        self._apply("bf16", False, "this machine has no fast bfloat16")
        self._apply("fp16", device == "cuda", "float16 needs a GPU")
        return "fp16" if device == "cuda" else "fp32"

    def _attention(self) -> str:
        if self._config.attention != "auto":
            return self._config.attention
        return str(
            self._apply("attention", "sdpa", "as fast as eager on short rows, with less memory on long ones")
        )

    def _batches(self) -> tuple[int, int]:
        """Rows in a step and batches per step. Passes bound memory by tokens, so no step has to be divided by rows."""
        rows = self._config.batch_size * self._config.gradient_accumulation
        why = "a step's rows are computed in passes of bounded size; the step stays the same"
        return self._apply("batch_size", rows, why), self._apply("gradient_accumulation", 1, why)

    def _steps(self, rows_per_step: int) -> int:
        steps = math.ceil(self._data.train_rows / rows_per_step) * self._config.epochs
        return min(steps, self._config.max_steps) if self._config.max_steps else steps

    def _save_steps(self, eval_steps: int, steps: int) -> int:
        asked = self._config.steps_between_saves
        return asked if asked <= steps else eval_steps

    def _patience(self) -> int:
        if self._data.validation_rows:
            return self._config.early_stopping_patience
        return int(self._apply("early_stopping_patience", 0, "there are no rows to validate on"))
