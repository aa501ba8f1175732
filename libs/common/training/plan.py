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
Backend = Literal["transformers", "unsloth"]
Optimizer = Literal["adamw", "adamw_fused", "adamw_8bit"]

PASS_TOKENS: dict[Device, int] = {"cpu": 1024, "cuda": 16_384}
"""Tokens, padding included, that go through the model at once. More of them are no faster and only take memory: on a CPU a
token of Gemma 3 270M holds 1.5 MB until its backward pass."""

PASS_COST: dict[Device, int] = {"cpu": 128, "cuda": 2048}
"""What a pass takes whatever is in it, as the number of tokens that take as long. On two cores a pass of Gemma 3 270M takes
0.2 s and 1.6 ms a token; a GPU's figure is an estimate, from some 50 ms of starting kernels."""


SOFTCAPPED = "gemma-2-"
"""Models that bound their attention scores by a tanh, which transformers' sdpa code does not do."""


@dataclass(frozen=True)
class MachineFacts:
    """What the child found.

    `fast_bf16` says whether bfloat16 is at least as fast as float32 here; `flash_attention` and `unsloth` whether these can
    be used; `memory_bytes` is what the device has in all (None: unknown).
    """

    cuda: bool
    fast_bf16: bool
    flash_attention: bool = False
    unsloth: bool = False
    memory_bytes: float | None = None


@dataclass(frozen=True)
class DataFacts:
    """Encoded rows: how many."""

    train_rows: int
    validation_rows: int


@dataclass(frozen=True)
class Plan:
    """The settings that training runs with. `effective` lists those that differ from what was asked, and why."""

    backend: Backend
    device: Device
    precision: Precision
    attention: str
    optimizer: Optimizer
    packing: bool
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
        device: Device = "cuda" if config.device != "cpu" and self._machine.cuda else "cpu"
        backend = self._backend(device)
        batch_size, accumulation = self._batches()
        steps = self._steps(batch_size * accumulation)
        eval_steps = min(config.eval_steps, steps)
        return Plan(
            backend=backend,
            device=self._apply("device", device, "an NVIDIA GPU is used where there is one"),
            precision=self._precision(device),
            attention=self._attention(device, backend),
            optimizer=self._optimizer(),
            packing=self._packing(device),
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

    def _backend(self, device: Device) -> Backend:
        asked = self._config.backend
        usable = device == "cuda" and self._machine.unsloth and self._config.method == "lora"
        if asked == "unsloth" and not usable:
            raise JobFailure(
                "unsupported_setting",
                "backend = unsloth: the trainer has no NVIDIA GPU, or Unsloth is not installed there.",
                blame="user",
                param="backend",
                hint="Set backend to 'auto' or 'transformers'.",
            )
        if asked != "auto":
            return asked
        if usable:
            return self._apply("backend", "unsloth", "Unsloth is installed, and there is a GPU")
        why = "Unsloth is not installed" if device == "cuda" else "Unsloth needs a GPU"
        if self._config.method == "full":
            why = "Unsloth is used for adapters only"
        return self._apply("backend", "transformers", why)

    def _optimizer(self) -> Optimizer:
        if self._config.optimizer != "auto":
            return self._config.optimizer
        return self._apply("optimizer", "adamw_fused", "the same steps in fewer kernels")

    def _packing(self, device: Device) -> bool:
        if self._config.packing != "auto":
            return self._config.packing
        why = (
            "padding costs a GPU more than the mask does"
            if device == "cuda"
            else "rows of like length need it less"
        )
        return self._apply("packing", device == "cuda", why)

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

    def _attention(self, device: Device, backend: Backend) -> str:
        config = self._config
        if config.model_name.startswith(SOFTCAPPED) and config.attention in ("auto", "sdpa"):
            return self._apply("attention", "eager", "sdpa leaves out the cap on Gemma 2's attention scores")
        if config.attention != "auto":
            return config.attention
        if device == "cuda" and self._machine.flash_attention and backend == "transformers":
            return self._apply("attention", "flash_attention_2", "it skips what lies between packed rows")
        return self._apply(
            "attention", "sdpa", "as fast as eager on short rows, with less memory on long ones"
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
