"""The audit log: who changed what."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from model_training.contracts.base import Reply


class AuditEntry(Reply):
    """One change. It was written in the transaction that made the change, or right after another service had made it."""

    id: str = Field(examples=["aud_01k9zq3v5c"])
    object: Literal["audit_entry"] = "audit_entry"
    at: datetime
    project: str = Field(description="The project of whoever did it.", examples=["proj_default"])
    actor: str = Field(description="The key's id.", examples=["key_01k9zq3v5c"])
    actor_name: str | None = Field(default=None, description="What the key is for.", examples=["ci"])
    action: str = Field(examples=["api_key.created"])
    target: str = Field(description="The id of what was changed.", examples=["key_01k9zq3v5d"])
    operation: str = Field(default="", description="The request's method and route; none for new jobs.")
    request_id: str | None = Field(default=None, description="As it stands in the logs.")
    data: dict[str, Any] = Field(
        default={}, description="What is new, or `[before, after]` by field. Never a secret."
    )
