"""`/v1/monitoring`, for the gateway."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Depends, Request

from libs.common.auth import require_internal
from libs.common.db.engine import Database
from model_training.contracts.monitoring import JobReport, Resources
from services.monitor.service import training


def routes(database: Database, measure: Callable[[], Resources], internal_token: str) -> APIRouter:
    """The routes of the monitor.

    Args:
        database: where jobs and history are.
        measure: takes one look at everything.
        internal_token: what other services show.
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

    return router
