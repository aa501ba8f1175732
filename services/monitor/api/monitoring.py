"""`/v1/monitoring`, for the gateway."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Depends, Request

from libs.common.auth import require_internal
from model_training.contracts.monitoring import Resources


def routes(measure: Callable[[], Resources], internal_token: str) -> APIRouter:
    """The routes of the monitor.

    Args:
        measure: takes one look at everything.
        internal_token: what other services show.
    """
    guard: Callable[[Request], None] = require_internal(internal_token)
    router = APIRouter(prefix="/v1/monitoring", tags=["monitoring"], dependencies=[Depends(guard)])

    @router.get("/resources", summary="What the machine and the queue are doing")
    def resources() -> Resources:
        """Host, services, GPUs, queues and running jobs, now."""
        return measure()

    return router
