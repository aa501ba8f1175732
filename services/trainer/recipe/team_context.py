"""A job's context as each of several processes has it: process 0 speaks, and all hear of a stop at the same step."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist

from libs.common.errors import JobStopped
from services.trainer.recipe.reporting import Context
from services.trainer.recipe.team import Team


class TeamContext:
    """`speaker` is process 0's own context; the others have none."""

    def __init__(self, order: dict[str, Any], team: Team, speaker: Context | None) -> None:
        self.job_id: str = order["job_id"]
        self.attempt: int = order["attempt"]
        self.fence: int = order["fence"]
        self.workdir = Path(order["workdir"])
        self._team = team
        self._speaker = speaker
        self._device = torch.device(
            "cuda" if dist.is_initialized() and dist.get_backend() == "nccl" else "cpu"
        )

    def event(self, message: str, **more: Any) -> None:
        """See `Context`."""
        if self._speaker is not None:
            self._speaker.event(message, **more)

    def progress(self, step: int, total: int, message: str = "", eta_s: float | None = None) -> None:
        """See `Context`."""
        if self._speaker is not None:
            self._speaker.progress(step, total, message, eta_s)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """See `Context`."""
        if self._speaker is not None:
            self._speaker.metrics(step, values)

    def output(self, name: str, data: dict[str, Any]) -> None:
        """See `Context`."""
        if self._speaker is not None:
            self._speaker.output(name, data)

    def stop_requested(self) -> Literal["pause", "cancel"] | None:
        """Called by all processes at the same point; all get the same answer."""
        known = self._speaker.stop_requested() if self._speaker is not None else None
        return self._team.agreed(known, self._device)

    def check_stop(self) -> None:
        """Raise `JobStopped` in all processes if a stop was asked for."""
        if self.stop_requested() is not None:
            raise JobStopped
