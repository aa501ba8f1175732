"""What the monitor alone must know."""

from __future__ import annotations

from libs.common.settings import PlatformSettings


class MonitorSettings(PlatformSettings):
    """Settings of the monitor; it has none of its own yet."""
