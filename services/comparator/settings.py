"""Settings of the comparator, from `MT_…` environment variables, read once in `main` and in `child`."""

from __future__ import annotations

from pydantic import Field

from libs.common.settings import PlatformSettings


class ComparatorSettings(PlatformSettings):
    """Times are in seconds."""

    comparator_poll_s: float = Field(default=1.0, gt=0, description="Pause between looks at an evaluation.")
    comparator_patience_s: float = Field(
        default=120.0, ge=0, description="How long the gateway may be away before a comparison gives up."
    )
    chat_timeout_s: float = Field(default=600.0, gt=0, description="How long one answer may take.")
