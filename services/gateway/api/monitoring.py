"""`/v1/monitoring`: read from the monitor."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, StringConstraints
from starlette.concurrency import run_in_threadpool

from model_training.config.catalogue import CATALOGUE
from model_training.contracts.base import Page
from model_training.contracts.monitoring import (
    CanaryRound,
    History,
    JobReport,
    LiveDrift,
    ModelUsage,
    Resources,
)
from services.gateway import repository
from services.gateway.api.dependencies import Admin, After, Gateway, JobId, Limit, Observer, Parts, Reader
from services.gateway.api.openapi import event_stream
from services.gateway.domain import Principal
from services.gateway.service import audit, jobs
from services.gateway.service.readings import View

STREAM = {"event": "resources", "data": '{"taken_at": "2026-11-24T09:00:00Z", "host": {}}'}

router = APIRouter(prefix="/v1/monitoring", tags=["monitoring"])


@router.get(
    "/resources",
    summary="What the machine and the queue are doing",
    response_model=Resources,
    responses={
        200: {"content": event_stream(STREAM), "description": "Everything now, or a stream of readings."}
    },
)
async def resources(request: Request, gateway: Parts, who: Reader) -> object:
    """Host, services, GPUs, queues and running jobs, now; with `Accept: text/event-stream`, now and every two seconds
    from now on. Other projects' jobs are shown to admins only, queues to those who may observe."""
    found = await run_in_threadpool(gateway.monitor.resources)
    if "text/event-stream" in request.headers.get("accept", ""):
        view = View(
            (who.project_id, who.is_admin, "observe" in who.scopes), lambda one: _seen(gateway, who, one)
        )
        return StreamingResponse(
            gateway.readings.stream(found, view, gateway.settings.sse_heartbeat_s),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )
    return await run_in_threadpool(_seen, gateway, who, found)


def _seen(gateway: Gateway, who: Principal, found: Resources) -> Resources:
    """What of a reading is for this caller."""
    if who.is_admin:
        return found
    with gateway.database.session() as session:
        own = jobs.of_project(session, who, [job.id for job in found.jobs])
    queues = found.queues if "observe" in who.scopes else []
    return found.model_copy(update={"jobs": [job for job in found.jobs if job.id in own], "queues": queues})


@router.get("/jobs/{job_id}", summary="How a job is going", response_model=JobReport)
def job(gateway: Parts, who: Reader, job_id: JobId) -> Response:
    """When it ends, what is noticed about it and what it used, in numbers and in a sentence."""
    with gateway.database.session() as session:
        jobs.get(session, who, job_id)  # of the key's project, or there is none
    return ask_monitor(gateway, "GET", f"/v1/monitoring/jobs/{job_id}")


@router.get("/models", summary="What each model has used", response_model=Page[ModelUsage])
def models(gateway: Parts, who: Reader, after: After = None, limit: Limit = 100) -> Response:
    """Processor and GPU time, energy and tokens of its answers, and what its training used; those that worked last come
    first. Other projects' models are shown to admins only, bases to those who may observe."""
    answer = ask_monitor(gateway, "GET", "/v1/monitoring/models")
    if who.is_admin or answer.status_code != 200:
        return answer
    found = Page[ModelUsage].model_validate_json(bytes(answer.body))
    with gateway.database.session() as session:
        others = repository.models_of_others(session, who.project_id, [one.model for one in found.data])
    hidden = others if "observe" in who.scopes else others | CATALOGUE.keys()
    shown = Page[ModelUsage].of([one for one in found.data if one.model not in hidden])
    return Response(shown.model_dump_json(), media_type="application/json")


@router.get("/history", summary="What a metric was", response_model=History)
def history(
    gateway: Parts,
    who: Observer,
    metric: Annotated[
        str,
        Query(
            description="A metric's name.", pattern=r"^mt_[a-z0-9_]{1,80}$", examples=["mt_host_cpu_ratio"]
        ),
    ],
    match: Annotated[
        list[Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}=[A-Za-z0-9_.:/-]{1,200}$")]] | None,
        Query(description="Labels and their values: gpu=0. May be repeated.", max_length=10),
    ] = None,
    start: Annotated[
        AwareDatetime | None, Query(description="From when; three hours before the end if not given.")
    ] = None,
    end: Annotated[AwareDatetime | None, Query(description="Until when; now if not given.")] = None,
) -> Response:
    """Mean, lowest and highest by minute for up to two days of the last week, by hour for longer spans, up to 400 days."""
    params: dict[str, Any] = {"metric": metric, "match": match}
    params |= {"start": start and start.isoformat(), "end": end and end.isoformat()}
    return ask_monitor(gateway, "GET", "/v1/monitoring/history", params=params)


@router.get("/canaries", summary="What the canary questions say", response_model=Page[CanaryRound])
def canaries(gateway: Parts, who: Observer, after: After = None, limit: Limit = 100) -> Response:
    """The newest round of each model: whether what answers behind its name is what was accepted."""
    return ask_monitor(gateway, "GET", "/v1/monitoring/canaries")


@router.post("/canaries/{model}/accept", summary="Accept what answers now", response_model=CanaryRound)
def accept(
    gateway: Parts,
    who: Admin,
    model: Annotated[
        str,
        Path(description="The model's name.", pattern=r"^[A-Za-z0-9_.:-]{1,200}$", examples=["gemma-3-270m"]),
    ],
) -> Response:
    """Somebody has changed the model on purpose: later rounds are held against this one."""
    return ask_monitor(gateway, "POST", f"/v1/monitoring/canaries/{model}/accept", body={})


@router.get("/drift", summary="Whether live questions and answers drifted", response_model=Page[LiveDrift])
def drift(gateway: Parts, who: Observer, after: After = None, limit: Limit = 100) -> Response:
    """Samples of live answers (`sampling.share`) in windows, against those that were accepted: lengths, refusals,
    repetition, retrieval scores. Input and output apart; at most one window in a hundred is a false alarm for each."""
    return ask_monitor(gateway, "GET", "/v1/monitoring/drift")


@router.post("/drift/{model}/accept", summary="Accept what is asked now", response_model=LiveDrift)
def accept_drift(
    gateway: Parts,
    who: Admin,
    model: Annotated[
        str,
        Path(
            description="The model's name.", pattern=r"^[A-Za-z0-9_.:@-]{1,200}$", examples=["gemma-3-270m"]
        ),
    ],
) -> Response:
    """Users ask other things now, or the model answers otherwise on purpose: the newest samples are the reference."""
    return ask_monitor(gateway, "POST", f"/v1/monitoring/drift/{quote(model, safe='')}/accept", body={})


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
    headers = {"X-MT-User": user} if user else {}
    answer = gateway.monitor.ask(method, path, params=params, body=body, headers=headers)
    if method != "GET" and answer.status < 300:
        audit.note(gateway.database, "monitoring.changed", path.removeprefix("/v1/"), body)
    return Response(answer.content, answer.status, media_type=answer.media_type)
