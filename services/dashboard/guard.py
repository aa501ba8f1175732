"""What browsers may do with the dashboard: load from it alone, and talk to it from its own pages alone."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

POLICY = (
    "default-src 'self'; "
    # Vue compiles templates in the browser, and a page carries its elements in an inline script.
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


PROBED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked by machines, under whatever name they reach us."""


class Guard:
    """Sends the policy with every answer, and refuses sockets and changes that come from pages of other sites.

    Args:
        hosts: names under which the dashboard is reached. A name of somebody else that leads here (DNS rebinding) would make
            his page one of ours. `*` takes every name.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `https://asgi.readthedocs.io/en/latest/specs/www.html`."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if (status := self._refused(scope)) is not None:
            refusal = (
                WebSocketClose(1008, "not from here")
                if scope["type"] == "websocket"
                else PlainTextResponse(
                    "The dashboard is not reached under this name, or from this page.", status
                )
            )
            await refusal(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("content-security-policy", POLICY)
            await send(message)

        await self._app(scope, receive, guarded)

    def _refused(self, scope: Scope) -> int | None:
        """The status of a refusal; None lets the request in."""
        host = Headers(scope=scope).get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if not self._hosts & {name, "*"} and scope["path"] not in PROBED:
            return 400
        return 403 if _is_foreign(scope) else None


def _is_foreign(scope: Scope) -> bool:
    if scope["type"] == "http" and scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return False
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")
