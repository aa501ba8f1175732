"""Passes requests on to other services with aiohttp; `benchmarks/gateway.py` measures what the way through costs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp

from libs.common import tracing
from libs.common.errors import Unavailable
from services.gateway.ports import Relayed


class AiohttpRelay:
    """Connections to the platform's own services. `open` it in the event loop that uses it."""

    def __init__(self, token: str, timeout_s: float) -> None:
        self._headers = {"Authorization": f"Bearer {token}"}
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Get ready; no connection is made yet."""
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=self._timeout,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def post(self, url: str, body: Any, headers: Mapping[str, str]) -> Relayed:
        """Send a request; return when the answer begins.

        Raises:
            Unavailable: the service does not answer.
        """
        assert self._session is not None, "open() comes first"
        try:
            # A redirect would carry the request, and the services' token, to wherever somebody points.
            sent = {**headers, **tracing.headers()}
            answer = await self._session.post(url, json=body, headers=sent, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(
                "The model's service does not answer.", hint="`mt status` shows why."
            ) from error
        if 300 <= answer.status < 400:
            answer.close()
            raise Unavailable("The model's service pointed elsewhere.", hint="`mt status` shows why.")
        return Relayed(answer.status, answer.headers, lambda: _whole(answer), lambda: _blocks(answer))


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    try:
        return await answer.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable("The model's service broke off its answer.", hint="Ask again.") from error


async def _blocks(answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    """The body as it comes. A reader that leaves closes the connection, which ends the work on the other side."""
    try:
        async for block in answer.content.iter_any():
            yield block
    finally:
        answer.close()
