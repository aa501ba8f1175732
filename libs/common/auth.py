"""Bearer tokens: the internal one between services, and how API keys are hashed."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

from fastapi import Request

from libs.common.errors import Unauthorized

KEY_PREFIX = "mt-"


def new_api_key() -> str:
    """A new API key with 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def key_digest(key: str, pepper: str) -> str:
    """HMAC-SHA-256 of a key under the server's pepper; only this is stored."""
    return hmac.new(pepper.encode(), key.encode(), hashlib.sha256).hexdigest()


def bearer_token(request: Request) -> str | None:
    """The token of the `Authorization` header, if there is one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def require_internal(token: str) -> Callable[[Request], None]:
    """A FastAPI dependency that lets only other services in."""

    def check(request: Request) -> None:
        given = bearer_token(request)
        if given is None or not hmac.compare_digest(given.encode(), token.encode()):
            raise Unauthorized(
                "This address is for the platform's own services.", hint="Use the gateway with an API key."
            )

    return check
