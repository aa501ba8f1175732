"""What a running job tells: metrics, progress, checkpoints; and how it listens: pause and cancel."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol

from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState

from libs.common.errors import JobStopped
from services.trainer.recipe import checkpoints
from services.trainer.recipe.disk import whole_or_nothing
from services.trainer.recipe.generation import in_words
from services.trainer.recipe.machine import held_memory_bytes
from services.trainer.recipe.trainer import Counters

POINTS = "points.json"
"""File of a checkpoint with the last metric points before it: a worker that is killed may not have stored all of them."""
KEPT_POINTS = 1000
"""More points than a worker can hold back before its lease is over."""

REPORTED = (
    "loss",
    "learning_rate",
    "grad_norm",
    "eval_loss",
    "eval_perplexity",
    "eval_token_accuracy",
    "eval_exact_match",
    "eval_parses",
    "eval_pass_rate",
)
"""What of the trainer's log becomes a metric of the job."""

Points = dict[int, dict[str, float]]


def tell_again(context: Context, checkpoint: Path) -> Points:
    """Report the last metric points of a checkpoint once more, and return them; those that are known replace themselves."""
    try:
        stored = json.loads((checkpoint / POINTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    points = {int(step): values for step, values in stored}
    for step, values in points.items():
        context.metrics(step, values)
    return points


class Context(Protocol):
    """How the recipe speaks with its job; `libs.common.jobs.child.ChildContext` is one, tests have a recorder."""

    job_id: str
    attempt: int
    fence: int
    workdir: Path

    def event(
        self,
        message: str,
        *,
        type: str = "message",
        level: Literal["info", "warn", "error"] = "info",
        data: dict[str, Any] | None = None,
    ) -> None: ...
    def progress(self, step: int, total: int, message: str = "", eta_s: float | None = None) -> None: ...
    def metrics(self, step: int, values: dict[str, float]) -> None: ...
    def output(self, name: str, data: dict[str, Any]) -> None: ...
    def stop_requested(self) -> Literal["pause", "cancel"] | None: ...
    def check_stop(self) -> None: ...


class Reporter(TrainerCallback):
    """Reports the steps of one attempt, seals its checkpoints, and honours requests to stop.

    `started` is when the attempt began, by the monotonic clock; `counters`, `metrics` (the newest of each) and
    `points` (by step) are what earlier attempts left. Of several processes, the one that `leads` seals checkpoints.
    """

    def __init__(
        self,
        context: Context,
        counters: Counters,
        root: Path,
        *,
        keep: int,
        started: float,
        metrics: Mapping[str, float],
        points: Points,
        leads: bool = True,
    ) -> None:
        self._context = context
        self._leads = leads
        self._root = root
        self._keep = keep
        self._counters = counters
        self._started = started
        self._earlier_s = counters.elapsed_s
        self._logged = Counters()
        self._began = time.monotonic()
        self._first_step = 0
        self._metrics = dict(metrics)
        self._points = deque(points.items(), maxlen=KEPT_POINTS)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock of this attempt."""
        self._began = time.monotonic()
        self._first_step = state.global_step
        self._logged = Counters(**asdict(self._counters))

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Pass metrics on, with speed, memory and time left added."""
        values = {name: float(value) for name, value in (logs or {}).items() if name in REPORTED}
        if not values:
            return
        if "loss" in values:
            values |= self._speed() | {"memory_bytes": float(held_memory_bytes(args.device.type))}
        self._metrics |= values
        self._context.metrics(state.global_step, self._at_step(state.global_step, values))
        self._context.progress(
            state.global_step, state.max_steps, self._sentence(state), self._seconds_left(state)
        )

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Honour a request to stop: a cancel at once, a pause after a checkpoint of this very step."""
        wanted = self._context.stop_requested()
        if wanted == "cancel":
            raise JobStopped
        if wanted == "pause" and state.global_step < state.max_steps:
            control.should_save = True
        control.should_log = (
            control.should_log or control.should_save
        )  # what diverged must show before it is saved
        return control

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        """Say the validation loss."""
        self._context.event(
            f"Validation loss {metrics['eval_loss']:.4f} at step {state.global_step}{in_words(metrics)}.",
            data=dict(metrics),
        )

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Seal the checkpoint that was just written, drop old ones, and leave if a pause was asked for."""
        step = state.global_step
        path = Path(str(args.output_dir)) / f"{checkpoints.PREFIX}{step}"
        self._counters.elapsed_s = self._earlier_s + time.monotonic() - self._started
        self._counters.ended = control.should_training_stop or step >= state.max_steps
        if self._leads:
            self._seal(path, step, state.best_global_step)
        if self._context.stop_requested() == "pause" and step < state.max_steps:
            raise JobStopped

    def _seal(self, path: Path, step: int, best: int | None) -> None:
        with whole_or_nothing(path, f"the checkpoint at step {step}"):
            (path / POINTS).write_text(json.dumps(list(self._points)), encoding="utf-8")
            marker = checkpoints.commit(
                path, self._context.fence, dict(self._metrics), asdict(self._counters)
            )
        data = {"step": step, "path": str(path), "sha256": marker.sha256, "metrics": marker.metrics}
        self._context.output("checkpoint", data)
        self._context.event(f"Checkpoint at step {step}.", type="checkpoint", data=data)
        for gone in checkpoints.rotate(self._root, self._context.fence, keep=self._keep, best_step=best):
            self._context.output("checkpoint_removed", {"step": gone})

    def _at_step(self, step: int, values: dict[str, float]) -> dict[str, float]:
        """A step is stored once, so a validation adds to the values of its step and does not replace them."""
        if self._points and self._points[-1][0] == step:
            values = self._points.pop()[1] | values
        self._points.append((step, values))
        return values

    def _speed(self) -> dict[str, float]:
        now = self._counters
        seconds = now.seconds - self._logged.seconds
        tokens = now.tokens - self._logged.tokens
        supervised = now.supervised_tokens - self._logged.supervised_tokens
        self._logged = Counters(**asdict(now))
        return {
            "tokens_per_s": tokens / seconds if seconds else 0.0,
            "supervised_tokens_per_s": supervised / seconds if seconds else 0.0,
            "tokens": float(now.tokens),
            "supervised_tokens": float(now.supervised_tokens),
        }

    def _sentence(self, state: TrainerState) -> str:
        spoken = [f"step {state.global_step}/{state.max_steps}"]
        spoken += [form.format(self._metrics[name]) for name, form in _SPOKEN if name in self._metrics]
        return ", ".join(spoken)

    def _seconds_left(self, state: TrainerState) -> float | None:
        done = state.global_step - self._first_step
        if done <= 0:
            return None
        return (time.monotonic() - self._began) / done * (state.max_steps - state.global_step)


_SPOKEN = (("loss", "loss {:.3f}"), ("eval_loss", "validation loss {:.3f}"), ("tokens_per_s", "{:.0f} tok/s"))
