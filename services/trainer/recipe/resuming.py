"""Where an attempt goes on, and what it says about checkpoints that it cannot use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState

from services.trainer.recipe import checkpoints
from services.trainer.recipe.checkpoints import CheckpointMarker, Found
from services.trainer.recipe.reporting import Context


def resume_point(context: Context, root: Path) -> Found | None:
    """The newest whole checkpoint of earlier attempts; None where training starts from the beginning.

    Every checkpoint that does not count is named in an event and set aside. What the platform lists is brought in line
    with what is there: an attempt that was killed may have written or removed a checkpoint without saying so.
    """
    found = checkpoints.survey(root)
    whole = [(one, one.marker) for one in found if one.marker is not None]
    for one in found:
        if one.marker is None:
            checkpoints.set_aside(one)
            data = {"step": one.step, "path": str(one.path), "fault": one.fault}
            text = f"The checkpoint at step {one.step} is not used: {one.fault}."
            context.event(text, type="checkpoint", level="warn", data=data)
    if context.fence > 1:
        kept = [committed(one.path, marker) for one, marker in reversed(whole)]
        context.output("checkpoints", {"kept": kept})
    if whole:
        step = whole[0][0].step
        context.event(f"Resuming from the checkpoint at step {step}.", data={"step": step})
        return whole[0][0]
    if context.fence > 1:
        context.event("There is no checkpoint to go on from; training starts from the beginning.")
    return None


def committed(path: Path, marker: CheckpointMarker) -> dict[str, Any]:
    """A checkpoint as the platform records it."""
    return {"step": marker.step, "path": str(path), "sha256": marker.sha256, "metrics": marker.metrics}


def choose_best(context: Context, root: Path, state: TrainerState) -> None:
    """Let a resumed state name a best checkpoint that is whole: the one that it knows, or the best of the others."""
    step = state.best_global_step
    if not step:
        return
    whole = {one.step: str(one.path) for one in reversed(checkpoints.survey(root)) if one.marker is not None}
    if step not in whole:
        losses = {line["step"]: line["eval_loss"] for line in state.log_history if "eval_loss" in line}
        left = sorted((losses[int(one)], int(one)) for one in whole if one in losses)
        state.best_metric, state.best_global_step = left[0] if left else (None, None)
        instead = f"the best of those that are left is that of step {left[0][1]}" if left else "none is left"
        context.event(f"The best checkpoint, of step {step}, is lost; {instead}.", level="warn")
    state.best_model_checkpoint = whole.get(state.best_global_step) if state.best_global_step else None


class BestIsWhole(TrainerCallback):
    """Chooses the best checkpoint anew when training goes on; see `choose_best`."""

    def __init__(self, context: Context, root: Path) -> None:
        self._context = context
        self._root = root

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The state of the checkpoint has just been read."""
        if state.global_step > 0:
            choose_best(self._context, self._root, state)
