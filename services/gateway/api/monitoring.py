"""`/v1/monitoring`: read from the monitor."""

from __future__ import annotations

import httpx
from fastapi import APIRouter, Response

from libs.common.errors import Unavailable
from model_training.contracts.monitoring import Resources
from services.gateway.api.dependencies import Parts, Reader

router = APIRouter(prefix="/v1/monitoring", tags=["monitoring"])


@router.get("/resources", summary="What the machine and the queue are doing", response_model=Resources)
def resources(gateway: Parts, who: Reader) -> Response:
    """Host, services, GPUs, queues and running jobs, now."""
    url = f"{gateway.settings.monitor_url}/v1/monitoring/resources"
    try:
        answer = gateway.http.get(url)
    except httpx.HTTPError as error:
        raise Unavailable("The monitor does not answer.", hint="`mt status` shows why.") from error
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))
