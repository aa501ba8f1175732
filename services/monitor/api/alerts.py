"""`/v1/alerts`, for the gateway. Who asks stands in the header `X-MT-User`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request

from libs.common.auth import require_internal
from libs.common.db.engine import Database
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
from services.monitor.service import alerting

Who = Annotated[str | None, Header(alias="X-MT-User")]


def routes(database: Database, now: Callable[[], datetime], internal_token: str) -> APIRouter:
    """The routes of alerts."""
    guard: Callable[[Request], None] = require_internal(internal_token)
    router = APIRouter(prefix="/v1/alerts", tags=["alerts"], dependencies=[Depends(guard)])

    @router.get("")
    def list_alerts(
        state: AlertState | None = None, rule: str | None = None, after: str | None = None, limit: int = 100
    ) -> Page[Alert]:
        with database.session() as session:
            found = alerting.list_alerts(session, now(), state=state, rule=rule, after=after, limit=limit + 1)
        return Page[Alert].of(found[:limit], len(found) > limit)

    @router.get("/silences")
    def list_silences(past: bool = False, after: str | None = None, limit: int = 100) -> Page[Silence]:
        with database.session() as session:
            found = alerting.list_silences(session, now(), past=past, after=after, limit=limit + 1)
        return Page[Silence].of(found[:limit], len(found) > limit)

    @router.post("/silences")
    def create_silence(body: SilenceCreate, who: Who = None) -> Silence:
        with database.session() as session:
            return alerting.create_silence(session, body, who, now())

    @router.post("/silences/{silence_id}/end")
    def end_silence(silence_id: str) -> Silence:
        with database.session() as session:
            return alerting.end_silence(session, silence_id, now())

    @router.get("/deliveries")
    def list_deliveries(
        state: DeliveryState | None = None, after: str | None = None, limit: int = 100
    ) -> Page[Delivery]:
        with database.session() as session:
            found = alerting.list_deliveries(session, state=state, after=after, limit=limit + 1)
        return Page[Delivery].of(found[:limit], len(found) > limit)

    @router.get("/{alert_id}")
    def get(alert_id: str) -> Alert:
        with database.session() as session:
            return alerting.get(session, alert_id, now())

    @router.post("/{alert_id}/acknowledge")
    def acknowledge(alert_id: str, body: AlertNote, who: Who = None) -> Alert:
        with database.session() as session:
            return alerting.acknowledge(session, alert_id, who, body.note, now())

    @router.post("/{alert_id}/resolve")
    def resolve(alert_id: str, body: AlertNote) -> Alert:
        with database.session() as session:
            return alerting.resolve(session, alert_id, body.note, now())

    return router
