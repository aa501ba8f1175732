"""What routes that create something share: once for an Idempotency-Key, in one transaction, a few at a time."""

from __future__ import annotations

from collections.abc import Callable

from anyio import CapacityLimiter, to_thread
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.orm import Session

from services.gateway.api.dependencies import Gateway
from services.gateway.domain import Principal
from services.gateway.service import idempotency

Create = Callable[[Session, int], BaseModel]
"""Makes it within a transaction; the number is how often a new job is tried."""

AT_ONCE = 4
"""Creations that run at once in a process; the others wait in line, and need no connection meanwhile. More would want more
connections than are kept open, and so keep other requests from theirs."""

_limiter = CapacityLimiter(AT_ONCE)


async def created(
    gateway: Gateway, who: Principal, key: str | None, route: str, request: BaseModel | None, create: Create
) -> JSONResponse:
    """The answer of `create`, or the stored one if this key has created before.

    Raises:
        Conflict: the key was used with another body or at another address.
    """

    def once() -> JSONResponse:
        # Before the transaction: reading it may take a connection, and where everybody waits for one more the pool is stuck.
        attempts = gateway.max_attempts
        body = request.model_dump(mode="json") if request is not None else None
        with gateway.database.session() as session:
            answer = idempotency.once(session, who, key, route, body, lambda: create(session, attempts))
        # The model has just checked it; FastAPI would check it against the operation's schema once more.
        return JSONResponse(answer)

    return await to_thread.run_sync(once, limiter=_limiter)
