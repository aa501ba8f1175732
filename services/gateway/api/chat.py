"""`/v1/chat/completions` and `/v1/completions`: passed on to inference, or to retrieval, streamed or not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import httpx
from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from libs.common.errors import InvalidInput, Unavailable
from libs.common.runtime_config import InferenceDefaults, RetrievalDefaults
from model_training.contracts.chat import ChatReply, ChatRequest, CompletionReply, CompletionRequest
from services.gateway.api.dependencies import Asker, Gateway, Parts
from services.gateway.domain import ModelName, Principal
from services.gateway.service import models

router = APIRouter(prefix="/v1", tags=["chat"])
PASSED_ON = ("content-type", "retry-after")


@router.post("/chat/completions", summary="Create a chat completion", response_model=ChatReply)
async def chat(gateway: Parts, who: Asker, request: ChatRequest) -> Response:
    """Answer a conversation. `rag:<index>@<model>` answers from an index and names its sources."""
    name, body = await run_in_threadpool(_prepare, gateway, who, request)
    base = gateway.settings.rag_url if name.index else gateway.settings.inference_url
    return await _pass_on(gateway, f"{base}/v1/chat/completions", body, who)


@router.post("/completions", summary="Create a text completion", response_model=CompletionReply)
async def complete(gateway: Parts, who: Asker, request: CompletionRequest) -> Response:
    """Continue a text as it is, without a template."""
    name, body = await run_in_threadpool(_prepare, gateway, who, request)
    if name.index:
        raise InvalidInput(
            "Retrieval answers conversations only.", param="model", hint="Use /v1/chat/completions."
        )
    return await _pass_on(gateway, f"{gateway.settings.inference_url}/v1/completions", body, who)


def _prepare(
    gateway: Gateway, who: Principal, request: ChatRequest | CompletionRequest
) -> tuple[ModelName, dict[str, Any]]:
    """What the model's name means, and the request with the platform's defaults where it does not say."""
    with gateway.database.session() as session:
        name = models.require(session, who, request.model)
    defaults = gateway.config.read(InferenceDefaults)
    body: dict[str, Any] = {**request.model_dump(mode="json", exclude_none=True), "model": name.text}
    if "temperature" not in request.model_fields_set:
        body["temperature"] = defaults.temperature
    if defaults.max_tokens is not None and not {"max_tokens", "max_completion_tokens"} & body.keys():
        body["max_tokens"] = defaults.max_tokens
    if name.index:
        retrieval = gateway.config.read(RetrievalDefaults).model_dump(exclude_none=True)
        body["retrieval"] = {**retrieval, **body.get("retrieval", {})}
    return name, body


async def _pass_on(gateway: Gateway, url: str, body: dict[str, Any], who: Principal) -> Response:
    """Send the request on and its answer back, without reading the answer whole. A client that leaves ends the request."""
    request = gateway.streaming.build_request(
        "POST", url, json=body, headers={"x-mt-project": who.project_id}
    )
    try:
        answer = await gateway.streaming.send(request, stream=True)
    except httpx.HTTPError as error:
        raise Unavailable("The model's service does not answer.", hint="`mt status` shows why.") from error
    headers = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
    return StreamingResponse(_chunks(answer), answer.status_code, headers=headers)


async def _chunks(answer: httpx.Response) -> AsyncGenerator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()
