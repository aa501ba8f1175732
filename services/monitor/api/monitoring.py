"""`/v1/monitoring`, for the gateway."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from libs.common.auth import require_internal
from libs.common.db.engine import Database
from model_training.contracts.base import Page
from model_training.contracts.monitoring import (
    CanaryRound,
    History,
    JobReport,
    LiveDrift,
    ModelUsage,
    Resources,
)
from services.monitor.service import canaries, live, training, usage
from services.monitor.service.history import read


def routes(
    database: Database,
    measure: Callable[[], Resources],
    internal_token: str,
    now: Callable[[], datetime],
) -> APIRouter:
    """The routes of the monitor.

    Args:
        database: where jobs and history are.
        measure: takes one look at everything.
        internal_token: what other services show.
        now: the monitor's clock.
    """
    guard: Callable[[Request], None] = require_internal(internal_token)
    router = APIRouter(prefix="/v1/monitoring", tags=["monitoring"], dependencies=[Depends(guard)])

    @router.get("/resources", summary="What the machine and the queue are doing")
    def resources() -> Resources:
        """Host, services, GPUs, queues and running jobs, now."""
        return measure()

    @router.get("/jobs/{job_id}", summary="How a job is going")
    def job(job_id: str) -> JobReport:
        """When it ends, what is noticed, what it used, in numbers and in a sentence."""
        with database.session() as session:
            return training.report(session, job_id)

    @router.get("/models", summary="What each model has used")
    def models() -> Page[ModelUsage]:
        """Processor and GPU time, energy and tokens of answers, and what its training used."""
        with database.session() as session:
            return Page[ModelUsage].of(usage.of_models(session))

    @router.get("/history", summary="What a metric was")
    def history(
        metric: str,
        match: Annotated[list[str] | None, Query()] = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> History:
        """Means, lows and highs by minute or hour."""
        pairs = dict(one.split("=", 1) for one in match or [] if "=" in one)
        with database.session() as session:
            return read(session, metric, pairs, start, end)

    @router.get("/canaries", summary="What the canary questions say")
    def rounds() -> Page[CanaryRound]:
        """The newest round of each model."""
        with database.session() as session:
            return Page[CanaryRound].of(canaries.listed(session))

    @router.post("/canaries/{model}/accept", summary="Accept what answers now")
    def accept(model: str) -> CanaryRound:
        """Hold later rounds against this one."""
        with database.session() as session:
            return canaries.accept(session, model)

    @router.get("/drift", summary="Whether live questions and answers drifted")
    def drift() -> Page[LiveDrift]:
        """Of each model that was sampled, its newest window against its reference."""
        with database.session() as session:
            return Page[LiveDrift](data=live.listed(session))

    @router.post("/drift/{model}/accept", summary="Accept what is asked and answered now")
    def accept_drift(model: str) -> LiveDrift:
        """Hold later samples against the newest ones."""
        with database.session() as session:
            return live.accept(session, model, now())

    return router
