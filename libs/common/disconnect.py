"""Work that ends when the client who asked for it hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

T = TypeVar("T")
CLIENT_LEFT = (
    499  # nginx's status for a request whose client hung up: for the log, since nobody reads the reply
)


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The work's result; None if the client hung up before, which cancels the work."""
    task = asyncio.create_task(work)
    left = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        left.cancel()


async def _disconnected(request: Request) -> None:
    """Wait for the hang-up. (`Request.is_disconnected` never says so behind a middleware of FastAPI's.)"""
    while (await request.receive())["type"] != "http.disconnect":
        pass
