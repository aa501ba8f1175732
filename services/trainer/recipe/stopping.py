"""When training ends before its last step: early stopping, and divergence."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any

from transformers.trainer_callback import (
    EarlyStoppingCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)

from libs.common.errors import JobFailure

SPIKE = 3.0
"""Times the median of the losses before it from which a loss counts as a spike."""
SPIKE_REPORTS = 3
"""Reports in a row that must be spikes: a single hard batch is none."""
SPIKE_WINDOW = 50
"""Reports whose median is the measure, and as few as ten of them."""


class PatientStopping(EarlyStoppingCallback):
    """Early stopping whose first `warmup` validations do not count against the patience."""

    def __init__(
        self, early_stopping_patience: int, early_stopping_threshold: float = 0.0, warmup: int = 0
    ) -> None:
        super().__init__(early_stopping_patience, early_stopping_threshold)
        self._warmup = warmup

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; the trainer makes the callback anew from it."""
        kept = super().state()
        kept["args"]["warmup"] = self._warmup
        return kept

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Any = None, **more: Any
    ) -> None:
        """Count this validation, if it is not one of the first. The state's history survives a restart, so this does too."""
        if sum("eval_loss" in line for line in state.log_history) > self._warmup:
            super().on_evaluate(args, state, control, metrics, **more)


class Divergence(TrainerCallback):
    """Ends a job whose loss is no number any more, or leaps and stays up."""

    def __init__(self) -> None:
        self._before: deque[float] = deque(maxlen=SPIKE_WINDOW)
        self._spikes = 0

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Look at what is reported.

        Raises:
            JobFailure: `diverged`.
        """
        # Loss scaling finds its scale by overflowing: float16 reports infinite gradients that no step used.
        names = ("loss", "eval_loss") if args.fp16 else ("loss", "grad_norm", "eval_loss")
        for name in names:
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(value):
                raise diverged(f"{name} at step {state.global_step} is {value}")
        if logs and "loss" in logs:
            self._watch(logs["loss"], state.global_step)

    def _watch(self, loss: float, step: int) -> None:
        usual = median(self._before) if len(self._before) >= 10 else math.inf
        if loss <= SPIKE * usual or loss < 1.0:  # nats: below, a factor is noise
            self._spikes = 0
            self._before.append(loss)
            return
        self._spikes += 1
        if self._spikes == SPIKE_REPORTS:
            above = f"above {SPIKE:.0f} times its usual {usual:.3f} for {SPIKE_REPORTS} reports"
            raise diverged(f"the loss has been {above}, {loss:.3f} at step {step}")


def diverged(what: str) -> JobFailure:
    """Training has left the numbers, or leaves what it had learnt."""
    return JobFailure(
        "diverged",
        f"Training diverged: {what}.",
        blame="user",
        param="learning_rate",
        hint="Lower learning_rate, or raise warmup_ratio.",
    )
