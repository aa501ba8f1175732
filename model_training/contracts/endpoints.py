"""Endpoints of others: OpenAI-compatible models outside the platform, asked through it as `external:<name>`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_serializer

from model_training.contracts.base import Number, Reference, Reply, Wire

EXTERNAL_PREFIX = "external:"
Dollars = Annotated[Number, Field(ge=0, le=1e6)]


class EndpointCreate(Wire):
    """Make an endpoint known. Its key is kept encrypted, is sent to that address alone, and is never shown again."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_.-]*$", examples=["big-model"])
    url: str = Field(
        min_length=1,
        max_length=2000,
        examples=["https://api.example.com/v1"],
        description="What stands before `/chat/completions`. Private addresses need `MT_EGRESS_ALLOWED`.",
    )
    model: Reference = Field(description="The model's name there.", examples=["big-model-2"])
    key: SecretStr | None = Field(default=None, max_length=2000, description="Sent as a bearer token.")
    million_prompt_tokens_usd: Dollars = 0.0
    million_completion_tokens_usd: Dollars = 0.0
    tokens_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens", description="How the endpoint wants the longest answer to be called."
    )

    @field_serializer("key", when_used="json-unless-none")
    def _on_the_wire(self, key: SecretStr) -> str:
        return key.get_secret_value()


class Endpoint(Reply):
    """An endpoint without its key."""

    id: str = Field(examples=["endp_01k9zq3v5c"])
    object: Literal["endpoint"] = "endpoint"
    name: str
    url: str
    model: str
    has_key: bool
    million_prompt_tokens_usd: float
    million_completion_tokens_usd: float
    tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    created_at: datetime
