"""Alerts: what fires, what was told to whom, and what is silenced."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from model_training.contracts.base import MOMENT, WHOLE, PlainText, Reason, Reply, Wire

Severity = Literal["page", "ticket", "info"]
"""`page` wakes somebody, `ticket` waits for the morning, `info` is for the record."""

AlertState = Literal["pending", "firing", "resolved"]
"""`pending`: the condition holds, though not for long enough yet. A pending alert whose condition ends is forgotten."""

DeliveryState = Literal["waiting", "sent", "failed", "superseded"]
"""`superseded`: a newer message about the same alerts took its place before it could be sent."""


class Alert(Reply):
    """A condition that holds, or held, for one set of labels. There is one open alert a rule and set of labels."""

    id: str
    object: Literal["alert"] = "alert"
    rule: str
    severity: Severity
    state: AlertState
    labels: dict[str, str] = {}
    summary: str
    value: float | None = None
    runbook: str = ""
    started_at: datetime
    fired_at: datetime | None = None
    resolved_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    note: str = ""
    silenced_by: str | None = None
    """The silence that keeps it quiet now."""


class AlertNote(Wire):
    """Why somebody acknowledges or resolves."""

    note: Reason = Field(default="", examples=["looking at it"])


class SilenceCreate(Wire):
    """Keep matching alerts quiet for a time; they are still listed. With a start ahead: a maintenance window."""

    match: dict[Annotated[PlainText, Field(min_length=1, max_length=64)], PlainText] = Field(
        default={}, max_length=16, examples=[{"rule": "GpuHot", "gpu": "0"}]
    )
    """`rule`, `severity` or a label, with the value that it must have. Nothing matches every alert."""
    duration_s: Annotated[int, Field(ge=1, le=365 * 86400, examples=[3600]), WHOLE]
    starts_at: Annotated[datetime, MOMENT] | None = None
    reason: Reason = Field(default="", examples=["moving the rack"])


class Silence(Reply):
    """A silence, past, present or to come."""

    id: str
    object: Literal["alert.silence"] = "alert.silence"
    match: dict[str, str] = {}
    starts_at: datetime
    ends_at: datetime
    created_by: str | None = None
    reason: str = ""


class Delivery(Reply):
    """A message to one channel about the alerts of one group."""

    id: str
    object: Literal["alert.delivery"] = "alert.delivery"
    channel: str
    group: str
    alerts: list[str] = []
    title: str
    state: DeliveryState
    attempts: int = 0
    created_at: datetime
    next_try_at: datetime | None = None
    sent_at: datetime | None = None
    error: str | None = None
