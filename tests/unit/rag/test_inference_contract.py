"""What the use cases may expect of a served model: the HTTP adapter and the tests' counting model keep the same contract."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import Request
from fastapi.responses import JSONResponse, StreamingResponse

from libs.common.errors import NotFound, PlatformError, Unavailable, UpstreamFailed
from libs.common.service import create_app
from model_training.contracts.chat import ChatMessage
from services.rag.adapters.inference_http import HttpInference
from services.rag.ports import Inference

QUESTION = [ChatMessage(role="user", content="one two three")]
BODY = {"model": "m", "messages": [message.model_dump() for message in QUESTION]}


def served(model: Inference) -> Any:
    """An inference service whose model is the counting one."""
    app = create_app("inference")

    @app.post("/v1/tokenize")
    async def tokenize(body: dict[str, Any]) -> dict[str, Any]:
        if "text" in body:
            return {"count": await model.count_text(body["model"], body["text"])}
        counted = await model.count(body["model"], [ChatMessage(**message) for message in body["messages"]])
        return {"count": counted.count, "text": counted.text, "context_length": counted.window}

    @app.post("/v1/chat/completions")
    async def chat(request: Request, body: dict[str, Any]) -> Any:
        if not body.get("stream"):
            return JSONResponse(await model.complete(body))
        pieces = await model.stream(body)

        async def events() -> AsyncIterator[str]:
            async for piece in pieces:
                yield f"data: {json.dumps(piece)}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


Use = Callable[[Inference], Awaitable[Any]]


@pytest.fixture(params=["http", "counting"])
def run(request: pytest.FixtureRequest, counting_model: Any) -> Callable[[Use], Any]:
    """Runs a use of the counting model, directly or through the adapter."""
    model = counting_model(window=100)

    async def over_http(use: Use) -> Any:
        transport = httpx.ASGITransport(served(model))
        async with httpx.AsyncClient(transport=transport, base_url="http://inference") as client:
            return await use(HttpInference(client))

    async def directly(use: Use) -> Any:
        return await use(model)

    return lambda use: asyncio.run(over_http(use) if request.param == "http" else directly(use))


def test_counts_the_prompt_and_states_it(run: Callable[[Use], Any]) -> None:
    counted = run(lambda inference: inference.count("m", QUESTION))
    assert (counted.count, counted.text, counted.window) == (4, "one two three", 100)


def test_counts_text(run: Callable[[Use], Any]) -> None:
    assert run(lambda inference: inference.count_text("m", "a b")) == 2


def test_answers(run: Callable[[Use], Any]) -> None:
    reply = run(lambda inference: inference.complete(BODY))
    assert reply["choices"][0]["message"]["content"] == "one two three"


def test_streams_piece_by_piece(run: Callable[[Use], Any]) -> None:
    async def collect(inference: Inference) -> list[str]:
        pieces = await inference.stream(BODY | {"stream": True})
        return [piece["choices"][0]["delta"]["content"] async for piece in pieces]

    assert run(collect) == ["one", "two", "three"]


@pytest.mark.parametrize("call", ["count", "complete", "stream"])
def test_refuses_an_unknown_model_before_anything_is_sent(run: Callable[[Use], Any], call: str) -> None:
    async def use(inference: Inference) -> Any:
        if call == "count":
            return await inference.count("unknown", QUESTION)
        body = BODY | {"model": "unknown"}
        return await (
            inference.complete(body) if call == "complete" else inference.stream(body | {"stream": True})
        )

    with pytest.raises(PlatformError) as error:
        run(use)
    problem = error.value.problem()
    assert (problem.status, problem.code, problem.param) == (404, NotFound.code, "model")


def test_a_dead_service_is_unavailable() -> None:
    async def use() -> None:
        async with httpx.AsyncClient(base_url="http://127.0.0.1:9") as client:
            await HttpInference(client).count("m", QUESTION)

    with pytest.raises(Unavailable, match="does not answer"):
        asyncio.run(use())


def test_an_error_without_a_problem_is_said_to_be_upstream() -> None:
    async def use() -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(500, text="<html>"))
        async with httpx.AsyncClient(transport=transport, base_url="http://inference") as client:
            await HttpInference(client).complete(BODY)

    with pytest.raises(UpstreamFailed, match="500"):
        asyncio.run(use())


def test_a_refusal_keeps_its_retry_after() -> None:
    problem = {"title": "t", "status": 429, "detail": "full", "code": "overloaded", "blame": "system"}

    async def use() -> None:
        reply = httpx.Response(429, json=problem, headers={"Retry-After": "7"})
        async with httpx.AsyncClient(
            transport=httpx.MockTransport(lambda _: reply), base_url="http://i"
        ) as client:
            await HttpInference(client).complete(BODY)

    with pytest.raises(PlatformError) as error:
        asyncio.run(use())
    assert error.value.retry_after_s == 7
    assert error.value.problem().status == 429
