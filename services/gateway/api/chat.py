"""`/v1/chat/completions` and `/v1/completions`: passed on to inference, or to retrieval, streamed or not."""

from __future__ import annotations

import random
from functools import cache
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from libs.common.errors import InvalidInput
from libs.common.live_samples import HEADER
from libs.common.runtime_config import InferenceDefaults, LiveSampling, RetrievalDefaults, Section
from model_training.contracts.chat import ChatReply, ChatRequest, CompletionReply, CompletionRequest
from services.gateway.api.dependencies import Asker, Gateway, Parts
from services.gateway.api.openapi import event_stream
from services.gateway.domain import ModelName, Principal
from services.gateway.ports import Target
from services.gateway.service import endpoints, models

router = APIRouter(prefix="/v1", tags=["chat"])
S = TypeVar("S", bound=Section)
PASSED_ON = ("content-type", "retry-after")
EXTERNAL_AT_ONCE = 64
"""Questions that wait for endpoints of others, in each process."""


def _streamed(kind: str) -> dict[int | str, dict[str, Any]]:
    content = event_stream({"data": f'{{"object": "{kind}", "choices": []}}'})
    return {
        200: {
            "content": content,
            "description": "The answer; in pieces with `stream`, `[DONE]` after the last.",
        }
    }


@router.post(
    "/chat/completions",
    summary="Create a chat completion",
    response_model=ChatReply,
    responses=_streamed("chat.completion.chunk"),
)
async def chat(gateway: Parts, who: Asker, request: ChatRequest) -> Response:
    """Answer a conversation. `rag:<index>@<model>` answers from an index and names its sources."""
    name, body = await _prepare(gateway, who, request)
    if name.external is not None:
        return await _ask_external(gateway, who, name.external, body)
    base = gateway.settings.rag_url if name.index else gateway.settings.inference_url
    return await _pass_on(gateway, f"{base}/v1/chat/completions", body, who)


@router.post(
    "/completions",
    summary="Create a text completion",
    response_model=CompletionReply,
    responses=_streamed("text_completion"),
)
async def complete(gateway: Parts, who: Asker, request: CompletionRequest) -> Response:
    """Continue a text as it is, without a template."""
    name, body = await _prepare(gateway, who, request)
    if name.index:
        raise InvalidInput(
            "Retrieval answers conversations only.", param="model", hint="Use /v1/chat/completions."
        )
    if name.external is not None:
        raise InvalidInput(
            "Endpoints of others answer conversations only.",
            param="model",
            hint="Use /v1/chat/completions.",
        )
    return await _pass_on(gateway, f"{gateway.settings.inference_url}/v1/completions", body, who)


async def _prepare(
    gateway: Gateway, who: Principal, request: ChatRequest | CompletionRequest
) -> tuple[ModelName, dict[str, Any]]:
    """What the model's name means, and the request with the platform's defaults where it does not say."""
    name = models.base_alone(request.model) or await run_in_threadpool(_resolve, gateway, who, request.model)
    defaults = await _read(gateway, InferenceDefaults)
    body: dict[str, Any] = {**request.model_dump(mode="json", exclude_none=True), "model": name.text}
    if "temperature" not in request.model_fields_set:
        body["temperature"] = defaults.temperature
    if defaults.max_tokens is not None and not {"max_tokens", "max_completion_tokens"} & body.keys():
        body["max_tokens"] = defaults.max_tokens
    if name.index:
        retrieval = (await _read(gateway, RetrievalDefaults)).model_dump(exclude_none=True)
        body["retrieval"] = {**retrieval, **body.get("retrieval", {})}
    return name, body


async def _read(gateway: Gateway, kind: type[S]) -> S:
    return gateway.config.fresh(kind) or await run_in_threadpool(gateway.config.read, kind)


def _resolve(gateway: Gateway, who: Principal, model: str) -> ModelName:
    with gateway.database.session() as session:
        return models.require(session, who, model)


async def _ask_external(gateway: Gateway, who: Principal, name: str, body: dict[str, Any]) -> Response:
    """The answer of somebody else's endpoint, which sees the conversation and nothing else of the platform."""

    def find() -> Target:
        with gateway.database.session() as session:
            return endpoints.target(session, who, name, gateway.settings.key_pepper.get_secret_value())

    target = await run_in_threadpool(find)
    limiter = _external_threads()
    if body.get("stream"):
        events = await to_thread.run_sync(gateway.external.stream, target, body, limiter=limiter)
        return StreamingResponse(events, media_type="text/event-stream")
    reply = await to_thread.run_sync(gateway.external.ask, target, body, limiter=limiter)
    return JSONResponse({**reply, "model": body["model"]})


@cache
def _external_threads() -> CapacityLimiter:
    """Threads of their own: a slow endpoint must not keep the platform's own requests waiting."""
    return CapacityLimiter(EXTERNAL_AT_ONCE)


async def _sampling(gateway: Gateway, who: Principal) -> dict[str, str]:
    """Whether this answer is measured. What the platform asks itself (evaluations, canaries) says nothing about users."""
    rule = await _read(gateway, LiveSampling)
    if who.key_id is None or random.random() >= rule.share:
        return {}
    return {HEADER: "text" if rule.keep_text else "numbers"}


async def _pass_on(gateway: Gateway, url: str, body: dict[str, Any], who: Principal) -> Response:
    """Send the request on and its answer back. A stream is passed on as it comes, and ends when its client leaves."""
    headers = {"x-mt-project": who.project_id, **await _sampling(gateway, who)}
    answer = await gateway.relay.post(url, body, headers)
    headers = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
    if headers.get("content-type", "").startswith("text/event-stream"):
        return StreamingResponse(answer.blocks(), answer.status, headers=headers)
    return Response(await answer.read(), answer.status, headers=headers)
