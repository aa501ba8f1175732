"""The routes over a real socket: streams, and clients that leave."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from libs.common.errors import Unavailable
from libs.common.service import BackgroundServer, create_app
from model_training.contracts.chat import ChatRequest
from services.rag.api import make_router

TOKEN = "internal-" * 4


class ScriptedAnswers:
    """Streams two pieces; breaks off, or takes for ever, when the model's name says so."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    async def answer(self, project_id: str | None, request: ChatRequest) -> dict[str, Any]:
        """An answer that never comes."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return {}

    async def stream(self, project_id: str | None, request: ChatRequest) -> AsyncIterator[dict[str, Any]]:
        """Two pieces, or one and a failure."""
        return self._pieces(request.model == "rag:x@breaks")

    async def _pieces(self, breaks: bool) -> AsyncIterator[dict[str, Any]]:
        yield {"n": 1}
        if breaks:
            raise Unavailable("The inference service does not answer.")
        yield {"n": 2}


@pytest.fixture
def answers() -> ScriptedAnswers:
    return ScriptedAnswers()


@pytest.fixture
def url(answers: ScriptedAnswers) -> Iterator[str]:
    app = create_app("rag")
    app.include_router(make_router(None, answers, None, TOKEN))  # type: ignore[arg-type]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    server = BackgroundServer(app, url)
    server.start()
    yield url
    server.stop()


def ask(url: str, model: str, *, stream: bool, timeout: float = 10) -> httpx.Response:
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "x"}]}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=timeout)


def events_of(reply: httpx.Response) -> list[Any]:
    data = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
    return [json.loads(item) if item != "[DONE]" else item for item in data]


def test_a_stream_ends_with_done(url: str) -> None:
    reply = ask(url, "rag:x@m", stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert events_of(reply) == [{"n": 1}, {"n": 2}, "[DONE]"]


def test_a_stream_that_breaks_says_why_and_does_not_pretend_to_be_done(url: str) -> None:
    first, last = events_of(ask(url, "rag:x@breaks", stream=True))
    assert first == {"n": 1}
    assert last["error"]["code"] == "unavailable"


def test_a_client_that_leaves_ends_the_work(url: str, answers: ScriptedAnswers) -> None:
    with pytest.raises(httpx.ReadTimeout):
        ask(url, "rag:x@m", stream=False, timeout=0.3)
    assert answers.cancelled.wait(timeout=60)
