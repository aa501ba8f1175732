"""Proof that training trains: gradients reach what is trained, and it moves. (Where a whole model is trained, read that for
"adapter".)

A job that would run for hours and change nothing ends in its first steps, with the reason.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState

from libs.common.errors import JobFailure
from services.trainer.recipe.stopping import diverged

PROOF_STEPS = 5
"""Optimiser steps within which the adapter must have moved. The first may have a learning rate of 0 (warm-up)."""

SMALLEST_MOVE = 1e-7
"""Change of any value below which the adapter counts as unmoved. A useful learning rate moves a thousand times more."""


SAMPLED = 100_000
"""Values of each tensor that are watched; all of an adapter's."""


class Proofs(TrainerCallback):
    """Watches the first steps; cheap enough to be always on."""

    def __init__(self) -> None:
        self._start: dict[str, torch.Tensor] = {}
        self._gradient_seen = False

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Remember the adapter as it is now.

        Raises:
            JobFailure: nothing is trainable.
        """
        self._start = {name: _sample(value).clone() for name, value in trainable(model).items()}
        if not self._start:
            raise JobFailure(
                "nothing_trainable", "No parameter of the model is trainable; the adapter is frozen."
            )
        if state.global_step > 0:  # a resumed job gave its proof in its first attempt
            self._start, self._gradient_seen = {}, True

    def on_pre_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Look at the gradient of the first step.

        Raises:
            JobFailure: no gradient reached the adapter, or it is not a number.
        """
        if self._gradient_seen:
            return
        norms = [float(value.grad.norm()) for value in trainable(model).values() if value.grad is not None]
        if not norms or max(norms) == 0.0:
            raise JobFailure(
                "no_gradient",
                "The loss on the answers sends no gradient to the adapter, so training would change nothing.",
                hint="This is a fault of the trainer or of the model's files, not of the data.",
            )
        if not args.fp16 and not all(
            math.isfinite(norm) for norm in norms
        ):  # loss scaling starts too high on purpose
            raise diverged("the gradient of the first step is not a number")
        self._gradient_seen = True

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Check the movement once, after the first steps.

        Raises:
            JobFailure: the adapter is where it was.
        """
        if self._start and state.global_step >= min(PROOF_STEPS, state.max_steps):
            if self.movement(model) < SMALLEST_MOVE:
                raise JobFailure(
                    "nothing_moved",
                    f"After {state.global_step} steps no parameter of the adapter has changed by {SMALLEST_MOVE}.",
                    blame="user",
                    param="learning_rate",
                    hint="Raise learning_rate; steps this small are rounded away.",
                )
            self._start = {}

    def movement(self, model: Any) -> float:
        """Largest change of any trainable value since training began here."""
        now = trainable(model)
        return max(float((_sample(now[name]) - start).abs().max()) for name, start in self._start.items())


def _sample(value: torch.Tensor) -> torch.Tensor:
    """Values spread evenly over a tensor, `SAMPLED` of a large one: a copy of a whole model would take its memory again."""
    flat = value.detach().flatten()
    return flat[:: max(1, flat.numel() // SAMPLED)]


def trainable(model: Any) -> dict[str, torch.Tensor]:
    """Parameters that the optimiser may change, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}
