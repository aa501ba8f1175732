"""What the monitor alone must know."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from libs.common.settings import PlatformSettings


class MonitorSettings(PlatformSettings):
    """Settings of the monitor."""

    dashboard_url: str = Field(
        default="http://127.0.0.1:8008", description="The dashboard, which is watched like the services."
    )
    monitor_interval_s: float = Field(default=10.0, gt=0, description="Time between two looks at everything.")
    canary_every_s: float = Field(
        default=3600.0, ge=0, description="Time between two rounds of canary questions; 0 asks none."
    )
    alerts_file: Path | None = Field(
        default=None,
        description="Alert rules, channels and manners of your own; `alerts.yaml` in the data directory if not set.",
    )
    alert_urls: tuple[str, ...] = Field(
        default=(),
        description="Apprise URLs that are told of pages and tickets, as a JSON list; besides the file's.",
    )
