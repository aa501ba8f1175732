"""Which model used how much of what the inference service used between two looks.

Models share one process. What it used is shared out by the time that each model was computed with; an engine that does not
tell that time (vLLM) shares by the tokens that it read and wrote. What is used while no model works is nobody's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model_training.contracts.monitoring import JobUsage, ModelUsage


@dataclass(frozen=True)
class Served:
    """What the inference service has counted for a model since it started: seconds of computing, tokens read and written."""

    busy_s: float = 0.0
    tokens: float = 0.0

    def since(self, before: Served) -> Served:
        """What was added; counters that began again have added what they show."""
        return Served(_grown(self.busy_s, before.busy_s), _grown(self.tokens, before.tokens))


class Serving:
    """Shares out, look by look."""

    def __init__(self) -> None:
        self._before: Mapping[str, Served] | None = None

    def look(
        self, counted: Mapping[str, Served], used: JobUsage, known: Mapping[str, ModelUsage]
    ) -> dict[str, ModelUsage]:
        """What each model that did something has used by now.

        Args:
            counted: what the service counts, by model; empty while it does not answer.
            used: what its processes have used since the last look.
            known: what was written down so far, by model.
        """
        if not counted:
            return {}
        before, self._before = self._before, dict(counted)
        if before is None:
            return {}  # a monitor that restarts does not know what of it was counted already
        grown = {model: now.since(before.get(model, Served())) for model, now in counted.items()}
        weights = {model: one.busy_s for model, one in grown.items() if one.busy_s > 0}
        weights = weights or {model: one.tokens for model, one in grown.items() if one.tokens > 0}
        whole = sum(weights.values())
        return {
            model: _add(known.get(model) or ModelUsage(model=model), grown[model], used, weight / whole)
            for model, weight in weights.items()
        }


def _add(before: ModelUsage, grown: Served, used: JobUsage, share: float) -> ModelUsage:
    return before.model_copy(
        update={
            "busy_s": before.busy_s + grown.busy_s,
            "tokens": before.tokens + grown.tokens,
            "cpu_s": before.cpu_s + share * used.cpu_s,
            "gpu_s": before.gpu_s + share * used.gpu_s,
            "energy_j": before.energy_j + share * used.energy_j,
        }
    )


def _grown(now: float, before: float) -> float:
    return now - before if now >= before else now
