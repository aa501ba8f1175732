"""`/v1/alerts`: kept by the monitor."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Response

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
from services.gateway.api.dependencies import Admin, After, Limit, Observer, Parts
from services.gateway.api.monitoring import ask_monitor

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])

AlertId = Annotated[str, Path(description="An alert's id.", max_length=64, examples=["alert_01k9zq3v5c"])]
SilenceId = Annotated[
    str, Path(description="A silence's id.", pattern=r"^sil_[a-z0-9]{1,40}$", examples=["sil_01k9zq3v5c"])
]
RuleName = Annotated[
    str | None, Query(description="Only alerts of this rule.", max_length=61, pattern=r"^[A-Za-z0-9]+$")
]


def _path(alert_id: str) -> str:
    return f"/v1/alerts/{quote(alert_id, safe='')}"


@router.get("", summary="List alerts", response_model=Page[Alert])
def list_alerts(
    gateway: Parts,
    who: Observer,
    state: Annotated[
        AlertState | None, Query(description="Those in this state; open ones if not given.")
    ] = None,
    rule: RuleName = None,
    after: After = None,
    limit: Limit = 100,
) -> Response:
    """What is wrong now, newest first, or what was."""
    params = {"state": state, "rule": rule, "after": after, "limit": limit}
    return ask_monitor(gateway, "GET", "/v1/alerts", params=params)


@router.get("/silences", summary="List silences", response_model=Page[Silence])
def list_silences(
    gateway: Parts,
    who: Observer,
    past: Annotated[bool, Query(description="Also those that are over.")] = False,
    after: After = None,
    limit: Limit = 100,
) -> Response:
    """Silences and maintenance windows, newest first."""
    return ask_monitor(
        gateway, "GET", "/v1/alerts/silences", params={"past": past, "after": after, "limit": limit}
    )


@router.post("/silences", summary="Silence alerts", response_model=Silence)
def create_silence(gateway: Parts, who: Admin, request: SilenceCreate) -> Response:
    """Keep matching alerts quiet for a time. They are still evaluated and listed."""
    body = request.model_dump(mode="json", exclude_none=True)
    return ask_monitor(gateway, "POST", "/v1/alerts/silences", body=body, user=who.name)


@router.post("/silences/{silence_id}/end", summary="End a silence", response_model=Silence)
def end_silence(gateway: Parts, who: Admin, silence_id: SilenceId) -> Response:
    """End it now."""
    return ask_monitor(gateway, "POST", f"/v1/alerts/silences/{silence_id}/end", body={})


@router.get("/deliveries", summary="List what was told to whom", response_model=Page[Delivery])
def list_deliveries(
    gateway: Parts,
    who: Observer,
    state: Annotated[DeliveryState | None, Query(description="Only messages in this state.")] = None,
    after: After = None,
    limit: Limit = 100,
) -> Response:
    """Messages to channels, newest first, with what became of them."""
    return ask_monitor(
        gateway, "GET", "/v1/alerts/deliveries", params={"state": state, "after": after, "limit": limit}
    )


@router.get("/{alert_id}", summary="Retrieve an alert", response_model=Alert)
def get(gateway: Parts, who: Observer, alert_id: AlertId) -> Response:
    """One alert, whatever its state."""
    return ask_monitor(gateway, "GET", _path(alert_id))


@router.post("/{alert_id}/acknowledge", summary="Acknowledge an alert", response_model=Alert)
def acknowledge(gateway: Parts, who: Admin, alert_id: AlertId, request: AlertNote) -> Response:
    """Say that you see to it: it is not repeated and not escalated."""
    path = _path(alert_id) + "/acknowledge"
    return ask_monitor(gateway, "POST", path, body=request.model_dump(), user=who.name)


@router.post("/{alert_id}/resolve", summary="Resolve an alert", response_model=Alert)
def resolve(gateway: Parts, who: Admin, alert_id: AlertId, request: AlertNote) -> Response:
    """End it by hand. Should its condition still hold, a new one begins."""
    return ask_monitor(
        gateway, "POST", _path(alert_id) + "/resolve", body=request.model_dump(), user=who.name
    )
