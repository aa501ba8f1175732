"""Sends requests when they are due and notes when the pieces of their answers come."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from services.evaluator.load.report import Request
from services.evaluator.load.schedule import ClosedLoop


@dataclass(frozen=True)
class Target:
    """An endpoint, `…/v1/chat/completions` or `…/v1/completions`, and what to ask there."""

    url: str
    model: str
    prompts: Sequence[str]
    max_tokens: int = 64
    key: str = ""
    timeout_s: float = 600.0

    def body(self, number: int) -> dict[str, Any]:
        """The request with that number; prompts are taken in turn."""
        prompt = self.prompts[number % len(self.prompts)]
        asked = (
            {"messages": [{"role": "user", "content": prompt}]}
            if self.url.endswith("/chat/completions")
            else {"prompt": prompt}
        )
        shared = {"model": self.model, "max_tokens": self.max_tokens, "temperature": 0, "stream": True}
        return {**asked, **shared, "stream_options": {"include_usage": True}, "user": str(number)}


@dataclass(frozen=True)
class Done:
    """A run's requests, and when it started by the machine's monotonic clock, in seconds."""

    started_s: float
    requests: list[Request]


def run_open(target: Target, due_s: Sequence[float]) -> Done:
    """Send each request when it is due, however many are under way. Returns them in that order."""
    run = _Run(target)
    requests = asyncio.run(run.open_loop(due_s))
    return Done(run.start_s, requests)


def run_closed(target: Target, loop: ClosedLoop) -> Done:
    """Let users send one after another; each request is due when its user is free."""
    run = _Run(target)
    requests = asyncio.run(run.closed_loop(loop))
    return Done(run.start_s, requests)


class _Run:
    def __init__(self, target: Target) -> None:
        self._target = target
        self.start_s = 0.0

    def _now(self) -> float:
        return time.monotonic() - self.start_s

    def _client(self) -> httpx.AsyncClient:
        # No bound on connections: a request that waits for one would be late for a reason that is not the server's.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        headers = {"Authorization": f"Bearer {self._target.key}"} if self._target.key else {}
        return httpx.AsyncClient(timeout=self._target.timeout_s, limits=limits, headers=headers)

    async def open_loop(self, due_s: Sequence[float]) -> list[Request]:
        async with self._client() as http:
            self.start_s = time.monotonic()
            return list(await asyncio.gather(*(self._at(http, n, due) for n, due in enumerate(due_s))))

    async def _at(self, http: httpx.AsyncClient, number: int, due_s: float) -> Request:
        await asyncio.sleep(max(0.0, due_s - self._now()))
        return await self._send(http, number, due_s)

    async def closed_loop(self, loop: ClosedLoop) -> list[Request]:
        numbers = iter(range(loop.requests))
        async with self._client() as http:
            self.start_s = time.monotonic()

            async def user() -> list[Request]:
                return [await self._send(http, number, self._now()) for number in numbers]

            return [
                one for sent in await asyncio.gather(*(user() for _ in range(loop.users))) for one in sent
            ]

    async def _send(self, http: httpx.AsyncClient, number: int, due_s: float) -> Request:
        sent_s = self._now()
        pieces: list[float] = []
        tokens: int | None = None
        error: str | None = None
        try:
            async with http.stream("POST", self._target.url, json=self._target.body(number)) as reply:
                if reply.status_code != 200:
                    error = f"status {reply.status_code}"
                else:
                    async for line in reply.aiter_lines():
                        chunk = _chunk(line)
                        if _text(chunk):
                            pieces.append(self._now())
                        tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
        except (httpx.HTTPError, ValueError) as fault:
            error = type(fault).__name__
        if error is None and not pieces and not tokens:
            error = "empty answer"
        done_s = pieces[-1] if pieces and error is None else self._now()
        return Request(
            due_s, sent_s, tuple(pieces), done_s, tokens if tokens is not None else len(pieces), error
        )


def _chunk(line: str) -> dict[str, Any]:
    """One event of the stream; empty for what is none. Raises ValueError for broken JSON."""
    if not line.startswith("data:") or line.removeprefix("data:").strip() == "[DONE]":
        return {}
    chunk: dict[str, Any] = json.loads(line.removeprefix("data:"))
    return chunk


def _text(chunk: dict[str, Any]) -> str:
    choices = chunk.get("choices") or [{}]
    return (choices[0].get("delta") or {}).get("content") or choices[0].get("text") or ""
