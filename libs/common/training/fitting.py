"""Makes a plan fit into the machine's memory, or refuses it with the numbers. For trainer and dry run alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

from libs.common.errors import JobFailure
from libs.common.training.estimates import LEAST_SHARE, DataSize, Memory, memory_of
from libs.common.training.plan import MachineFacts, Plan
from model_training.config.shapes import Shape
from model_training.config.training_config import TrainingConfig

ROOM = 0.9
"""Share of the memory that a plan aims to stay within."""


@dataclass(frozen=True)
class Fitted:
    """A plan, and what it will hold."""

    plan: Plan
    memory: Memory


def fit(
    plan: Plan,
    machine: MachineFacts,
    config: TrainingConfig,
    shape: Shape,
    data: DataSize,
    parameters: int | None = None,
) -> Fitted:
    """The plan, with passes halved until it fits; a step's rows stay the same.

    Args:
        parameters: all weights of the base; those of the shape if it is not given.

    Raises:
        JobFailure: `does_not_fit`, if even passes of one row cannot fit.
    """
    weights = parameters or shape.parameters
    fitted = Fitted(plan, memory_of(shape, weights, plan, config, data))
    limit = machine.memory_bytes
    if limit is None:
        return fitted
    while fitted.memory.total > ROOM * limit and plan.pass_tokens > data.longest:
        plan = replace(plan, pass_tokens=max(plan.pass_tokens // 2, data.longest))
        fitted = Fitted(plan, memory_of(shape, weights, plan, config, data))
    if fitted.memory.total * LEAST_SHARE > limit:
        raise _too_large(fitted.memory, limit, config)
    return fitted


def _too_large(memory: Memory, limit: float, config: TrainingConfig) -> JobFailure:
    ways = [f"a model smaller than {config.model_name}"]
    if not config.gradient_checkpointing:
        ways.insert(0, "gradient_checkpointing=true")
    if not config.load_in_4bit:
        ways.insert(0, "load_in_4bit=true")
    return JobFailure(
        "does_not_fit",
        f"Training would hold about {memory}, and the machine has {limit / 1e9:.1f} GB.",
        blame="user",
        param="model",
        hint=f"Try {', '.join(ways)}, or a larger machine.",
    )
