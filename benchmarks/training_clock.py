"""What every arm of the training benchmarks is measured with. Needs transformers and nothing of this project, so that a peer
in an environment of its own can be measured with it too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback


class Clock(TrainerCallback):
    """Times every optimiser step, in seconds of the wall and of the processor, and keeps its loss."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []
        self.losses: list[float] = []
        self._start = (0.0, 0.0)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock; on accelerated batches this is called once a step, too."""
        self._start = time.perf_counter(), time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop it."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # what was ordered may not be done yet
        self.wall.append(time.perf_counter() - self._start[0])
        self.processor.append(time.process_time() - self._start[1])

    def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
        """Keep the loss."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def figures(self, tokens_per_step: float) -> dict[str, Any]:
        """What an arm reports. The first step is left out of the rates; they are means over all others, whose rows differ in
        length."""
        steps = len(self.wall) - 1
        return {
            "steps": steps + 1,
            "tokens_per_step": round(tokens_per_step),
            "tokens_per_s": round(tokens_per_step * steps / sum(self.wall[1:])),
            "tokens_per_processor_s": round(tokens_per_step * steps / sum(self.processor[1:])),
            "median_step_s": round(sorted(self.wall[1:])[steps // 2], 3),
            "peak_memory_gb": round(peak_memory_bytes() / 1e9, 2),
            "losses": [round(loss, 4) for loss in self.losses],
        }


def peak_memory_bytes() -> int:
    """The most memory that this process has held; Linux only."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
