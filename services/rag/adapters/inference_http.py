"""The inference service over HTTP: token counts, answers and streams of them. Its refusals come through unchanged."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
from pydantic import ValidationError

from libs.common.errors import PlatformError, Unavailable, UpstreamFailed
from model_training.contracts.chat import ChatMessage
from model_training.contracts.problems import Problem
from services.rag.ports import TokenCount

CHAT = "/v1/chat/completions"
TOKENIZE = "/v1/tokenize"


class RefusedUpstream(PlatformError):
    """The inference service refused the request"""

    def __init__(self, problem: Problem, retry_after_s: float | None) -> None:
        super().__init__(problem.detail, param=problem.param, hint=problem.hint, retry_after_s=retry_after_s)
        self._problem = problem

    def problem(self) -> Problem:
        """The problem as the inference service stated it."""
        return self._problem.model_copy(update={"error": None})


class HttpInference:
    """A client of the inference service; the caller owns and closes the HTTP client, which carries URL and token."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def count(self, model: str, messages: Sequence[ChatMessage]) -> TokenCount:
        """Tokens of the rendered prompt.

        Raises:
            PlatformError: the model is unknown, or the service does not answer.
        """
        body = {"model": model, "messages": [message.model_dump() for message in messages]}
        reply = await self._post(TOKENIZE, body)
        return TokenCount(reply["count"], reply.get("text") or "", reply.get("context_length"))

    async def count_text(self, model: str, text: str) -> int:
        """Tokens of a text on its own. Raises as `count` does."""
        reply = await self._post(TOKENIZE, {"model": model, "text": text})
        return reply["count"]

    async def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a chat request.

        Raises:
            PlatformError: the service refuses, or does not answer.
        """
        return await self._post(CHAT, body)

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The answer's pieces. Awaiting this opens the stream, so that a refusal is raised before anything was sent.

        Raises:
            PlatformError: the service refuses, or does not answer.
        """
        request = self._client.build_request("POST", CHAT, json=body)
        try:
            response = await self._client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        if response.status_code >= 400:
            try:
                await response.aread()
            finally:
                await response.aclose()
            raise _refusal(response)
        return _pieces(response)

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            response = await self._client.post(path, json=body)
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        if response.status_code >= 400:
            raise _refusal(response)
        return response.json()


async def _pieces(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    try:
        async for line in response.aiter_lines():
            data = line.removeprefix("data:").strip()
            if line.startswith("data:") and data != "[DONE]":
                yield json.loads(data)
    except httpx.HTTPError as error:
        raise _unreachable(error) from error
    finally:
        await response.aclose()  # a client that left stops the generation


def _unreachable(error: httpx.HTTPError) -> PlatformError:
    return Unavailable(
        f"The inference service does not answer ({type(error).__name__}).",
        hint="Try again shortly.",
        retry_after_s=2,
    )


def _refusal(response: httpx.Response) -> PlatformError:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return UpstreamFailed(f"The inference service answered {response.status_code} without a reason.")
    wait = response.headers.get("retry-after", "")
    return RefusedUpstream(problem, float(wait) if wait.isdigit() else None)
