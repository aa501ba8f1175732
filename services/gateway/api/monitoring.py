"""`/v1/monitoring`: read from the monitor."""

from __future__ import annotations

from typing import Any

import httpx
from fastapi import APIRouter, Response

from libs.common.errors import Unavailable
from model_training.contracts.monitoring import JobReport, Resources
from services.gateway.api.dependencies import Gateway, JobId, Parts, Reader
from services.gateway.service import jobs

router = APIRouter(prefix="/v1/monitoring", tags=["monitoring"])


@router.get("/resources", summary="What the machine and the queue are doing", response_model=Resources)
def resources(gateway: Parts, who: Reader) -> Response:
    """Host, services, GPUs, queues and running jobs, now."""
    return ask_monitor(gateway, "GET", "/v1/monitoring/resources")


@router.get("/jobs/{job_id}", summary="How a job is going", response_model=JobReport)
def job(gateway: Parts, who: Reader, job_id: JobId) -> Response:
    """When it ends, what is noticed about it and what it used, in numbers and in a sentence."""
    with gateway.database.session() as session:
        jobs.get(session, who, job_id)  # of the key's project, or there is none
    return ask_monitor(gateway, "GET", f"/v1/monitoring/jobs/{job_id}")


def ask_monitor(
    gateway: Gateway,
    method: str,
    path: str,
    *,
    params: dict[str, Any] | None = None,
    body: dict[str, Any] | None = None,
    user: str | None = None,
) -> Response:
    """The monitor's answer as it is. Parameters that are None are left out.

    Raises:
        Unavailable: the monitor does not answer.
    """
    given = {name: value for name, value in (params or {}).items() if value is not None}
    headers = {"X-MT-User": user} if user else {}
    try:
        answer = gateway.http.request(
            method, f"{gateway.settings.monitor_url}{path}", params=given, json=body, headers=headers
        )
    except httpx.HTTPError as error:
        raise Unavailable("The monitor does not answer.", hint="`mt status` shows why.") from error
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))
