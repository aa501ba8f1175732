"""What a training job will take: tokens, memory, time. Arithmetic on shapes, corrected by what earlier jobs really took.

The gateway's dry run and the trainer use the same functions. Nothing here looks at a machine, a file or a database.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from libs.common.training.plan import Device, Plan, Precision
from model_training.config.shapes import Shape
from model_training.config.training_config import TrainingConfig

BYTES: dict[Precision, int] = {"bf16": 2, "fp16": 2, "fp32": 4}
FOUR_BIT_BYTES = 0.53
"""Of a weight in NF4 with double quantisation: half a byte, and 8.13 bits for each block of 64 (Dettmers 2023)."""
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
LEAST_SHARE = 0.75
"""Of an estimate that no job has corrected yet: it may really take as little."""
PROCESS_BYTES = 620_000_000
"""A process that has imported torch, transformers, PEFT and TRL, without a model."""
LOSS_ROWS = 512
"""Rows of logits that exist at once (`recipe.loss.CHUNK_TOKENS`)."""
CORE_FLOPS: dict[Precision, float] = {"bf16": 110e9, "fp16": 45e9, "fp32": 45e9}
"""Operations a second that a core sustains in a training step, measured with Gemma 3 270M on two cores (AMD Zen 5)."""
GPU_FLOPS = 100e12
"""The same of a GPU; not measured."""
START_S: dict[Device, float] = {"cpu": 14.0, "cuda": 25.0}
"""Imports, reading the base, fingerprint and writing the adapter."""
STEP_S = 0.03
"""What a step costs whatever its size."""
CHARACTERS_PER_TOKEN = 3.0
"""Of rows, template included: 2.5 for code, 3.4 to 3.9 for English."""
SUPERVISED_SHARE = 0.4
"""Of the tokens; 0.25 for code questions with short answers, 0.65 for explanations."""


@dataclass(frozen=True)
class Spread:
    """A figure, the range it will probably fall into, and what it stands on."""

    expected: float
    low: float
    high: float
    basis: str


@dataclass(frozen=True)
class DataSize:
    """Rows and tokens of one pass. `longest` is an upper bound of a row's tokens."""

    train_rows: int
    validation_rows: int
    train_tokens: float
    validation_tokens: float
    supervised_share: float
    longest: int

    @property
    def row_tokens(self) -> float:
        """Mean tokens of a row."""
        return self.train_tokens / max(1, self.train_rows)


@dataclass(frozen=True)
class Compute:
    """What computes. `cores` counts CPU threads and does not matter on a GPU."""

    device: Device
    precision: Precision
    cores: int


@dataclass(frozen=True)
class Record:
    """What an earlier job of the same base took. `work_tokens` is its `Work.weighted`."""

    work_tokens: float
    tokens_per_s: float
    duration_s: float
    memory_bytes: float
    expected_memory_bytes: float


@dataclass(frozen=True)
class Work:
    """What a job computes: tokens trained on and validated on, over all passes, and optimiser steps."""

    train_tokens: float
    validation_tokens: float
    steps: int

    @property
    def weighted(self) -> float:
        """Tokens, one of a validation counted as a third: it has no backward pass, which costs twice the forward one."""
        return self.train_tokens + self.validation_tokens / 3

    @classmethod
    def of(cls, plan: Plan, data: DataSize) -> Work:
        """The work of a plan that runs to its last step."""
        rows = plan.steps * plan.batch_size * plan.gradient_accumulation
        validations = 1 + math.ceil(plan.steps / plan.eval_steps) if data.validation_rows else 0
        per_epoch = math.ceil(data.train_rows / max(1, plan.batch_size * plan.gradient_accumulation))
        whole = data.train_tokens * plan.steps / max(1, per_epoch)  # the last batch of a pass may be smaller
        return cls(min(whole, rows * data.row_tokens), validations * data.validation_tokens, plan.steps)


def trained_parameters(shape: Shape, parameters: int, config: TrainingConfig) -> int:
    """Weights that training changes, of a base with so many in all."""
    return parameters if config.method == "full" else adapter_parameters(shape, config)


def adapter_parameters(shape: Shape, config: TrainingConfig) -> int:
    """Weights of the LoRA adapter, layers with a rank of their own included."""
    total = 0
    for name in config.target_modules:
        inputs, outputs = shape.linear_layers[name]
        block = "mlp" if name in FEED_FORWARD else "self_attn"
        ranks = (_rank(f"model.layers.{layer}.{block}.{name}", config) for layer in range(shape.layers))
        total += sum(rank * (inputs + outputs) + config.use_dora * outputs for rank in ranks)
    return total


def _rank(layer: str, config: TrainingConfig) -> int:
    """By the first pattern that matches the end of the name, as PEFT takes it."""
    matching = (rank for pattern, rank in config.rank_pattern.items() if _matches(pattern, layer))
    return next(matching, config.lora_r)


def _matches(pattern: str, layer: str) -> bool:
    try:
        return re.fullmatch(rf"(.*\.)?({pattern})", layer) is not None
    except re.error:
        return False  # the trainer refuses it by name


@dataclass(frozen=True)
class Memory:
    """The most bytes that the training process will hold, by what they are for; on a GPU, the GPU's."""

    parts: dict[str, float]

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        largest = sorted(self.parts.items(), key=lambda part: -part[1])
        spoken = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in largest if value >= 5e7)
        return f"{self.total / 1e9:.1f} GB ({spoken})"


def memory_of(shape: Shape, parameters: int, plan: Plan, config: TrainingConfig, data: DataSize) -> Memory:
    """What a plan will probably hold.

    Args:
        parameters: all weights of the base, whatever the shape leaves out.
    """
    width = BYTES[plan.precision]
    step_tokens = plan.batch_size * data.row_tokens
    tokens = max(min(plan.pass_tokens, step_tokens * 1.3), data.longest)
    moments = 2 if plan.optimizer == "adamw_8bit" else 8
    linear = shape.body_parameters if config.load_in_4bit else 0
    parts = {
        "weights": (parameters - linear) * width + linear * FOUR_BIT_BYTES,
        "activations": _activations(shape, plan, config) * tokens,
        "logits": min(LOSS_ROWS, tokens * data.supervised_share) * shape.vocabulary * width,
        "adapter and optimiser": adapter_parameters(shape, config)
        * (8 + moments),  # float32 values and gradients
    }
    if (
        config.method == "full"
    ):  # float32 values and gradients of everything, and the same in 16 bits while a pass lasts
        del parts["adapter and optimiser"]
        parts["weights"] = parameters * (4 + (width if width < 4 else 0))
        parts["gradients and optimiser"] = parameters * (4 + moments)
    if config.load_in_4bit:
        parts["a layer in 16 bits"] = max(i * o for i, o in shape.linear_layers.values()) * width * 2
    if plan.device == "cpu":
        parts["libraries"] = PROCESS_BYTES
        if not config.load_in_4bit:  # weights in the processor's own order, of the shapes met last
            parts["weights reordered"] = 2 * shape.body_parameters * width
    return Memory(parts)


def _activations(shape: Shape, plan: Plan, config: TrainingConfig) -> float:
    """Bytes that a token holds until its backward pass."""
    block = 20 * shape.hidden + 9 * shape.intermediate + 6 * (shape.query_width + 2 * shape.key_width)
    kept = shape.hidden * shape.layers + block if config.gradient_checkpointing else block * shape.layers
    return kept * BYTES[plan.precision]


def default_tokens_per_s(shape: Shape, compute: Compute, supervised_share: float) -> float:
    """Trained tokens a second where no job of the base has been measured yet."""
    operations = 4 * (shape.body_parameters + supervised_share * shape.head_parameters)
    speed = GPU_FLOPS if compute.device == "cuda" else CORE_FLOPS[compute.precision] * compute.cores
    return speed / operations


def memory_spread(expected: float, records: Sequence[Record]) -> Spread:
    """The memory expected, corrected by how far the arithmetic was off in earlier jobs."""
    ratios = [r.memory_bytes / r.expected_memory_bytes for r in records if r.expected_memory_bytes > 0]
    if not ratios:
        basis = "arithmetic on the model's shapes; no job of this base has been measured yet"
        return Spread(expected, expected * LEAST_SHARE, expected * 1.4, basis)
    factor = median(ratios)
    basis = f"arithmetic on the model's shapes, times {factor:.2f} as measured in {_jobs(len(ratios))}"
    return Spread(
        expected * factor,
        expected * min(min(ratios), factor * 0.85),
        expected * max(max(ratios), factor * 1.2),
        basis,
    )


def time_spread(
    work: Work, shape: Shape, compute: Compute, supervised_share: float, records: Sequence[Record]
) -> Spread:
    """Seconds from a worker's start on the job to its end, waiting in the queue not counted."""
    if not records:
        rate = default_tokens_per_s(shape, compute, supervised_share)
        expected = START_S[compute.device] + STEP_S * work.steps + work.weighted / rate
        where = "a GPU" if compute.device == "cuda" else f"{compute.cores} cores in {compute.precision}"
        basis = f"{rate:,.0f} tokens/s assumed of {where}; no job of this base has been measured yet"
        return Spread(expected, expected / 2.5, expected * 2.5, basis)
    rates = [record.tokens_per_s for record in records]
    fixed = [max(0.0, record.duration_s - record.work_tokens / record.tokens_per_s) for record in records]
    rate, start = median(rates), median(fixed)
    basis = f"{rate:,.0f} tokens/s and {start:.0f} s around them, measured in {_jobs(len(records))}"
    return Spread(
        start + work.weighted / rate,
        min(fixed) + work.weighted / max(max(rates), rate * 1.25),
        max(fixed) + work.weighted / min(min(rates), rate / 1.5),
        basis,
    )


def _jobs(count: int) -> str:
    return "1 earlier job of this base" if count == 1 else f"{count} earlier jobs of this base"
