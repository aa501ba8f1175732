"""Configuration at run time: what every value is, where it comes from, and who changed it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from model_training.contracts.base import WHOLE, Reason, Reply, Wire

Origin = Literal["default", "file", "environment", "runtime"]
"""Later ones win: built in, `config.yaml` of the data directory, `MT_<SECTION>_<NAME>`, set through the API."""


class ConfigValue(Reply):
    """One value. `inherited` is what it would be without the change at run time."""

    value: Any = Field(examples=[100.0])
    origin: Origin
    inherited: Any = Field(default=None, examples=[1000.0])
    description: str = ""


class ConfigSection(Reply):
    """A section. `version` counts the changes at run time and is the ETag that a change must name in `If-Match`."""

    section: str = Field(examples=["limits"])
    object: Literal["config_section"] = "config_section"
    version: int
    values: dict[str, ConfigValue] = Field(
        examples=[{"requests_per_s": {"value": 100.0, "origin": "runtime", "inherited": 1000.0}}]
    )
    changed_at: datetime | None = None
    changed_by: str | None = None
    reason: str | None = None


class ConfigChange(Wire):
    """Set values of a section; null takes a value back to where it came from before."""

    values: dict[Annotated[str, Field(max_length=100)], Any] = Field(
        min_length=1, max_length=50, examples=[{"requests_per_s": 100.0}]
    )
    reason: Reason = Field(min_length=1, examples=["A burst of uploads"])


class ConfigRestore(Wire):
    """Go back to what was set in an earlier version; 0 is before the first change."""

    version: Annotated[int, Field(ge=0, le=2**31 - 1), WHOLE] = Field(examples=[0])
    reason: Reason = Field(min_length=1, examples=["The burst is over"])


class ConfigVersion(Reply):
    """One change: everything that was set after it, who made it, when and why."""

    section: str = Field(examples=["limits"])
    version: int
    values: dict[str, Any] = Field(examples=[{"requests_per_s": 100.0}])
    changed_by: str | None = None
    reason: str
    created_at: datetime
