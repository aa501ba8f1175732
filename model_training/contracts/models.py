"""Models that can answer: bases and tuned ones."""

from __future__ import annotations

from typing import Any, Literal

from model_training.contracts.base import Reply


class ModelObject(Reply):
    """A model in OpenAI's shape, with its lineage. `created` is in Unix seconds."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "model-training"
    root: str | None = None
    """The base that a tuned model stands on; None for a base."""
    state: Literal["servable", "pending", "refused"] = "servable"
    job_id: str | None = None
    artifact: str | None = None
    metrics: dict[str, float] = {}
    lineage: dict[str, Any] = {}
