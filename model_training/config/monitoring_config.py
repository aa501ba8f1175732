"""What to watch, how often, and above which value to raise an alert."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from model_training.config.base_config import BaseConfig, Fault

Watch = Literal["jobs", "resources", "quality"]


class MonitoringConfig(BaseConfig):
    """Settings of monitoring."""

    kind: ClassVar[str] = "monitoring"
    also_known_as: ClassVar[dict[str, str]] = {"interval": "interval_s", "refresh_s": "interval_s"}

    interval_s: float = Field(default=2.0, ge=0.1, le=3600)
    """Seconds between two looks."""
    watch: list[Watch] = Field(default=["jobs", "resources", "quality"], min_length=1)
    """What to look at: jobs with loss and ETA, the machine, the quality of answers."""
    job: str | None = Field(default=None, min_length=1)
    """Follow this job only and end with it. None follows all that run."""
    stop_when_idle: bool = False
    """End when no job is queued or running."""

    memory_alert: float = Field(default=0.92, gt=0, le=1)
    """Share of the machine's memory in use above which an alert is raised."""
    disk_alert: float = Field(default=0.90, gt=0, le=1)
    """Share of the data directory's disk in use above which an alert is raised."""
    gpu_memory_alert: float = Field(default=0.97, gt=0, le=1)
    """Share of a GPU's memory in use above which an alert is raised."""
    gpu_temperature_warning_c: float = Field(default=83, ge=0, le=120)
    """Degrees Celsius of a GPU above which a warning is raised."""
    gpu_temperature_alert_c: float = Field(default=90, ge=0, le=120)
    """Degrees Celsius of a GPU above which an alert is raised."""
    stalled_after_s: float = Field(default=300, ge=1)
    """Seconds without a step or a message after which a running job counts as stalled."""
    queue_wait_alert_s: float = Field(default=900, ge=1)
    """Seconds that a job may wait for a worker before an alert is raised."""
    loss_rise_alert: float = Field(default=0.5, gt=0)
    """How far the training loss may rise above its lowest mean, as a share of it, before an alert is raised."""
    quality_drop_alert: float = Field(default=0.05, gt=0, le=1)
    """How far a rate may fall below the accepted one before drift is reported."""
    quality_window: int = Field(default=100, ge=10, le=100_000)
    """Newest answers over which quality is measured."""

    def rules(self) -> Iterator[Fault]:
        """A warning comes before its alert."""
        if self.gpu_temperature_warning_c >= self.gpu_temperature_alert_c:
            rule = f"must be below gpu_temperature_alert_c ({self.gpu_temperature_alert_c:g})"
            hint = (
                "Change both at once: config.update(gpu_temperature_warning_c=…, gpu_temperature_alert_c=…)."
            )
            yield Fault("gpu_temperature_warning_c", rule, self.gpu_temperature_warning_c, hint)
