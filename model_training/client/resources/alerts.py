"""Alerts: what is wrong now, and what people do about it."""

from __future__ import annotations

from model_training.client.transport import Transport
from model_training.contracts.alerts import (
    Alert,
    AlertNote,
    AlertState,
    Delivery,
    DeliveryState,
    Silence,
    SilenceCreate,
)
from model_training.contracts.base import Page


class Alerts:
    """`/v1/alerts`. Changing anything needs a key with the scope `admin`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        state: AlertState | None = None,
        rule: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Alert]:
        """One page, newest first: what is open, or what is in a state."""
        params = {"state": state, "rule": rule, "after": after, "limit": limit}
        return self._transport.get(Page[Alert], "/v1/alerts", params)

    def get(self, alert_id: str) -> Alert:
        """One alert."""
        return self._transport.get(Alert, f"/v1/alerts/{alert_id}")

    def acknowledge(self, alert_id: str, note: str = "") -> Alert:
        """Say that you see to it."""
        return self._transport.create(Alert, f"/v1/alerts/{alert_id}/acknowledge", AlertNote(note=note))

    def resolve(self, alert_id: str, note: str = "") -> Alert:
        """End it by hand."""
        return self._transport.create(Alert, f"/v1/alerts/{alert_id}/resolve", AlertNote(note=note))

    def silence(self, match: dict[str, str], duration_s: int, reason: str = "") -> Silence:
        """Keep matching alerts quiet for a time, in seconds."""
        body = SilenceCreate(match=match, duration_s=duration_s, reason=reason)
        return self._transport.create(Silence, "/v1/alerts/silences", body)

    def end_silence(self, silence_id: str) -> Silence:
        """End a silence now."""
        return self._transport.act(Silence, f"/v1/alerts/silences/{silence_id}/end")

    def silences(self, *, past: bool = False) -> Page[Silence]:
        """Those that are not over, or all."""
        return self._transport.get(Page[Silence], "/v1/alerts/silences", {"past": past})

    def deliveries(self, *, state: DeliveryState | None = None, limit: int = 100) -> Page[Delivery]:
        """What was told to whom, newest first."""
        return self._transport.get(Page[Delivery], "/v1/alerts/deliveries", {"state": state, "limit": limit})
