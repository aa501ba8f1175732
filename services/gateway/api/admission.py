"""What every request passes before its body is read: host and origin, key, rate, and how large it may be."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common.auth import bearer_token
from libs.common.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    PlatformError,
    RateLimited,
    TooLarge,
    Unauthorized,
)
from libs.common.problems import DATABASE_AWAY, database_away, respond_to
from libs.common.runtime_config import Limits
from services.gateway.api.dependencies import Gateway
from services.gateway.domain import Allowance, Principal
from services.gateway.service import audit

PREFIX = "/v1/"
METRICS = "/metrics"
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""What reverse proxies add. A request with one of them comes from outside: the services' own requests pass none."""
UPLOADS = frozenset({"/v1/files", "/v1/models/import"})
FORM_BYTES = 64 * 1024
"""What a form adds to a file."""
LINGER_BYTES, LINGER_S = 64 * 1024 * 1024, 5.0
"""So much of a refused body is read and thrown away, so that a client that is still sending gets to see the answer."""


class Admission:
    """Refuses early: before a body is received, parsed or stored."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway
        self._hosts = frozenset(gateway.settings.allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            self._check_address(request)
            body = receive
            if request.url.path.startswith(PREFIX):
                limits = self._admit_known(request) or await run_in_threadpool(self._admit, request)
                body = self._limited(request, limits, receive)
        except (PlatformError, *DATABASE_AWAY) as caught:
            error = caught if isinstance(caught, PlatformError) else database_away(caught)
            await _drain(receive)
            await respond_to(request, error)(scope, receive, send)
            return
        who: Principal | None = getattr(request.state, "principal", None)
        if who is None:
            await self._app(scope, body, send)
            return
        with audit.on_behalf_of(who, scope):
            await self._app(scope, body, send)

    def _check_address(self, request: Request) -> None:
        host = _hostname(f"//{request.headers.get('host', '')}")
        if "*" not in self._hosts and host not in self._hosts:
            raise InvalidInput(
                f"This server does not answer as {host[:200]!r}.",
                param="Host",
                hint="MT_ALLOWED_HOSTS lists names.",
            )
        origin = request.headers.get("origin")
        if origin is not None and "*" not in self._hosts and _hostname(origin) not in self._hosts:
            raise Forbidden(
                f"Pages of {origin[:200]!r} may not use this server.",
                param="Origin",
                hint="See MT_ALLOWED_HOSTS.",
            )
        if b"%00" in request.scope.get("raw_path", b"") or b"%00" in request.scope["query_string"]:
            raise InvalidInput("The address holds a NUL character.", param="path")
        if request.url.path == METRICS and not _is_inside(request):
            raise NotFound(f"There is nothing at {request.method} {METRICS}.")

    def _admit_known(self, request: Request) -> Limits | None:
        """Admit without waiting for anything; None where the key, the limits or a token have to be asked for."""
        limits, token = self._gateway.config.fresh(Limits), bearer_token(request)
        if limits is None or token is None:
            return None
        who = self._gateway.keyring.known(
            token, request.headers.get("x-mt-project"), _allowance(limits), inside=_is_inside(request)
        )
        if who is None or not (who.key_id is None or self._gateway.buckets.take_held(who.key_id)):
            return None
        request.state.principal = who
        return limits

    def _admit(self, request: Request) -> Limits:
        limits, token = self._gateway.config.read(Limits), bearer_token(request)
        if token is None:
            raise Unauthorized(
                "The request carries no API key.",
                hint="Send `Authorization: Bearer <key>`; `mt up` keeps the key in its data directory, in `api_key`.",
            )
        who = self._gateway.keyring.find(
            token, request.headers.get("x-mt-project"), _allowance(limits), inside=_is_inside(request)
        )
        self._take_token(who, limits)
        request.state.principal = who
        return limits

    def _take_token(self, who: Principal, limits: Limits) -> None:
        if who.key_id is None:
            return
        wait_s = self._gateway.buckets.take(who.key_id, limits.requests_per_s, limits.burst)
        if wait_s > 0:
            raise RateLimited(
                f"The key may send {limits.requests_per_s:g} requests a second, {limits.burst} at once.",
                hint="Wait as long as Retry-After says.",
                retry_after_s=wait_s,
            )

    def _limited(self, request: Request, limits: Limits, receive: Receive) -> Receive:
        """The same body, ended by an error where it grows too large.

        Raises:
            TooLarge: its declared length says so already.
        """
        upload = request.method == "POST" and request.url.path in UPLOADS
        most = self._gateway.settings.max_file_bytes + FORM_BYTES if upload else limits.max_body_bytes
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > most:
            raise TooLarge(
                f"The request has {length} bytes; {most} are allowed.", param="file" if upload else None
            )
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                # The framework passes on this kind of error alone while it reads a body.
                raise HTTPException(413, f"The request has more than {most} bytes.")
            return message

        return limited


def _is_inside(request: Request) -> bool:
    return not any(name in request.headers for name in FORWARDED)


def _hostname(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return ""
    return f"[{host}]" if ":" in host else host


async def _drain(receive: Receive) -> None:
    seen, deadline = 0, time.monotonic() + LINGER_S
    while seen < LINGER_BYTES and time.monotonic() < deadline:
        message = await receive()
        seen += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


def _allowance(limits: Limits) -> Allowance:
    return Allowance(limits.max_open_jobs_per_key, limits.max_open_jobs_per_project)
