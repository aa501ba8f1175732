"""Configuration at run time: values with their origins, changes with a reason, and going back."""

from __future__ import annotations

from typing import Any

from model_training.client.transport import Transport
from model_training.contracts.base import Page
from model_training.contracts.config import ConfigChange, ConfigRestore, ConfigSection, ConfigVersion

PATH = "/v1/config"


class Config:
    """`/v1/config`. Changing anything needs a key with the scope `admin`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Page[ConfigSection]:
        """Every section."""
        return self._transport.get(Page[ConfigSection], PATH)

    def get(self, section: str) -> ConfigSection:
        """One section with the origin of each value."""
        return self._transport.get(ConfigSection, f"{PATH}/{section}")

    def change(self, section: ConfigSection, values: dict[str, Any], reason: str) -> ConfigSection:
        """Set values, unless the section has changed since it was read; None takes a value back."""
        body = ConfigChange(values=values, reason=reason)
        path = f"{PATH}/{section.section}"
        return self._transport.change(ConfigSection, path, body, section.version, method="PATCH")

    def restore(self, section: ConfigSection, version: int, reason: str) -> ConfigSection:
        """Set what was set in an earlier version; 0 is before the first change."""
        body = ConfigRestore(version=version, reason=reason)
        path = f"{PATH}/{section.section}/restore"
        return self._transport.change(ConfigSection, path, body, section.version)

    def history(self, section: str, *, limit: int = 20) -> Page[ConfigVersion]:
        """Changes, newest first."""
        return self._transport.get(Page[ConfigVersion], f"{PATH}/{section}/history", {"limit": limit})
