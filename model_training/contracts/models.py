"""Models that can answer: bases and tuned ones."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from model_training.contracts.base import Reason, Reply, Wire

CHAMPION = "champion"
"""The alias that names the model in use."""


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
    aliases: list[str] = []
    """Aliases that point at the model."""


AdapterAction = Literal["load", "unload", "pin", "unpin"]


class Adapter(Reply):
    """A tuned model as the inference service sees it. `gate` holds the numbers of its last comparison with its trainer's."""

    id: str = Field(examples=["model_01k9zq3v5c"])
    object: Literal["adapter"] = "adapter"
    base: str = Field(examples=["gemma-3-270m"])
    artifact: str
    state: Literal["servable", "pending", "refused"] = "servable"
    loaded: bool
    pinned: bool
    """Kept in memory whatever else is asked, also after a restart."""
    gate: dict[str, Any] | None = None


class AliasChange(Wire):
    """Why an alias is moved."""

    reason: Reason = Field(default="", examples=["35% against 10% right in cmp_01k9zq"])


class ModelAlias(Reply):
    """Where an alias points since `version`. `version` is also the ETag that the next move must name in `If-Match`."""

    object: Literal["model.alias"] = "model.alias"
    alias: str = Field(examples=["champion"])
    model: str = Field(examples=["gemma-3-270m"])
    version: int
    restores: int | None = None
    """The version that a rollback went back to."""
    changed_by: str | None = None
    reason: str = ""
    created_at: datetime
