"""What the gateway alone must know."""

from __future__ import annotations

from pydantic import Field, SecretStr

from libs.common.processes import default_count
from libs.common.settings import PlatformSettings


class GatewaySettings(PlatformSettings):
    """Settings of the public door. Sizes are in bytes, times in seconds."""

    key_pepper: SecretStr = Field(description="Secret that API keys are hashed with.", min_length=32)
    bootstrap_api_key: SecretStr | None = Field(
        default=None, description="A key that is made known at start."
    )
    gateway_processes: int = Field(
        default_factory=default_count,
        ge=1,
        le=64,
        description="Processes that serve on the gateway's port; by default one for each core, four at most.",
    )
    max_file_bytes: int = Field(default=512 * 1024 * 1024, ge=1, description="Largest upload.")
    allowed_hosts: list[str] = Field(
        default=["127.0.0.1", "localhost", "[::1]", "gateway"], description="Host headers that are answered."
    )
    chat_timeout_s: float = Field(default=600.0, gt=0, description="How long an answer may take.")
    drain_s: int = Field(
        default=5,
        ge=0,
        description="How long answers that are being written may go on when the gateway is told to stop.",
    )
    sse_heartbeat_s: float = Field(
        default=10.0, gt=0, description="Silence after which a stream says that it lives."
    )
