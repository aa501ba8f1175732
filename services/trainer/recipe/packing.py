"""Packing that is real: asserted on the first rows before training starts, because other recipes drop it without a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from libs.common.errors import JobFailure
from libs.common.training.plan import Plan, Precision
from services.trainer.recipe.batches import collate, passes
from services.trainer.recipe.encode import Example

PROBE_ROWS = 4
TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "bf16": 0.1, "fp16": 0.05}
"""How far the mean loss of the probe's rows may differ, packed and alone; a row that sees another differs by far more.
Rounding alone makes the difference in 16 bits."""


@dataclass(frozen=True)
class PackingReport:
    """What packing does to a job's rows. `factor` is how many rows a sequence holds on average in a step, `padding` the
    share of computed tokens that are none of a row's; `loss_packed` and `loss_alone` are those of the probe, in nats."""

    factor: float
    padding: float
    loss_packed: float
    loss_alone: float

    @property
    def sentence(self) -> str:
        """For the job's history."""
        return (
            f"Packing {self.factor:.1f} rows into a sequence, {self.padding:.1%} padding; checked: a row's loss is the same "
            f"packed ({self.loss_packed:.5f}) and alone ({self.loss_alone:.5f})."
        )

    def to_dict(self) -> dict[str, float]:
        """As an event carries it."""
        return asdict(self)


def check_packing(trainer: Any, examples: Sequence[Example], plan: Plan) -> PackingReport:
    """Measure packing on the first rows.

    Raises:
        JobFailure: rows that are packed see each other.
    """
    probe = list(examples[:PROBE_ROWS])
    packed = _loss(trainer, probe, sum(len(example.ids) for example in probe))
    alone = sum(_loss(trainer, [one], len(one.ids)) * one.supervised for one in probe)
    alone /= max(1, sum(example.supervised for example in probe))
    if abs(packed - alone) > TOLERANCE[plan.precision]:
        raise JobFailure(
            "packing_leaks",
            f"Packed rows do not keep to themselves: their loss is {packed:.5f} together and {alone:.5f} alone.",
            blame="user",
            param="packing",
            hint="Set packing to false, or attention to another value.",
        )
    step = list(examples[: plan.batch_size])
    parts = list(passes(_batch(trainer, step), plan.pass_tokens, packed=True))
    computed = sum(part["input_ids"].numel() for part in parts)
    tokens = sum(len(example.ids) for example in step)
    return PackingReport(len(step) / len(parts), 1 - tokens / computed, packed, alone)


@torch.no_grad()
def _loss(trainer: Any, examples: list[Example], limit: int) -> float:
    model = trainer.model
    was_training = model.training
    model.eval()
    (part,) = passes(_batch(trainer, examples), limit, packed=len(examples) > 1)
    del part["rows"]
    with trainer.accelerator.autocast():
        loss = float(model(**trainer._prepare_inputs(part)).loss)
    model.train(was_training)
    return loss


def _batch(trainer: Any, examples: list[Example]) -> dict[str, torch.Tensor]:
    rows = [{"input_ids": e.ids, "labels": e.labels, "row": number} for number, e in enumerate(examples)]
    return collate(trainer.processing_class.pad_token_id or 0)(rows)
