"""What every HTTP process has: health, readiness, metrics, problems, request ids, a clean stop."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from ulid import ULID

from libs.common import problems, tracing
from libs.common.headers import protect
from libs.common.processes import BEAT_S, METRICS_DIRECTORY, beat, listening_socket
from libs.common.settings import host_of, port_of

Ready = Callable[[], str | None]
"""Says why a process cannot serve yet, or None when it can."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

DRAIN_S = 5
"""How long open requests may go on when a process is told to stop, unless its service says otherwise."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")

REQUESTS = Counter(
    "mt_http_requests_total",
    "Requests answered; probes and scrapes are not counted.",
    ["service", "method", "route", "status"],
)
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked by machines all the time: counted, they would hide what people meet, and a slow start would look like an outage."""
LATENCY = Histogram(
    "mt_http_request_seconds", "Time until the response began.", ["service", "method", "route"]
)


def create_app(
    name: str,
    *,
    ready: Ready = lambda: None,
    lifespan: Lifespan | None = None,
    title: str | None = None,
    description: str = "",
    alive: Ready = lambda: None,
    stopping: Callable[[], None] = lambda: None,
    middleware: Sequence[Middleware] = (),
) -> FastAPI:
    """An application with `/healthz`, `/readyz`, `/metrics` and the error handlers. Routes are added by the caller.

    Args:
        name: the service's name, as it stands in logs and metrics.
        ready: asked by `/readyz`; the reason goes into a 503.
        alive: asked by `/healthz`; a reason means that the process is stuck and should be restarted.
        stopping: called in the event loop as soon as the process is told to stop, before it waits for open requests: it ends
            streams that would go on for ever.
        middleware: what else every request passes, outermost first.
    """
    app = FastAPIOffline(  # `/docs` with scripts from its wheel, not from a public server
        redoc_url=None,
        title=title or name,
        description=description,
        lifespan=_traced(name, lifespan),
        version="0.1.0",
        # Requests have spans where `libs.common.tracing` has begun; `Observer` counts and times them.
        telemetry={
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
            "exclude": _is_probe,
        },
        middleware=[Middleware(Observer, service=name), *middleware],
    )
    problems.install(app)
    app.state.stopping = stopping

    @app.get("/healthz", tags=["health"], summary="Is the process alive?", include_in_schema=False)
    def healthz() -> JSONResponse:
        return _health(alive())

    @app.get("/readyz", tags=["health"], summary="Can the process serve now?", include_in_schema=False)
    def readyz() -> JSONResponse:
        return _health(ready())

    @app.get("/metrics", tags=["health"], summary="Prometheus metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(_registry()), media_type=CONTENT_TYPE_LATEST)

    return app


def _traced(name: str, lifespan: Lifespan | None) -> Lifespan:
    """The lifespan with the process's tracing around it: begun where requests are served, so behind any fork."""

    @asynccontextmanager
    async def traced(app: FastAPI) -> AsyncGenerator[None]:
        tracing.begin(name)
        try:
            async with lifespan(app) if lifespan else nullcontext():
                yield
        finally:
            tracing.flush()

    return traced


def _is_probe(scope: Mapping[str, Any]) -> bool:
    return scope.get("path") in PROBES


def _registry() -> CollectorRegistry:
    """What this process has counted; of a service of several processes, what all of them have."""
    if METRICS_DIRECTORY not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # pyright: ignore[reportUnknownMemberType]
    return registry


def _health(reason: str | None) -> JSONResponse:
    if reason is None:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "unavailable", "reason": reason}, 503)


class Observer:
    """Counts and times every request, gives it an id for the logs, and its answer what browsers must know."""

    def __init__(self, app: ASGIApp, service: str) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `https://asgi.readthedocs.io/en/latest/specs/www.html`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"req_{str(ULID()).lower()}"
        started = time.perf_counter()

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
                protect(scope["path"], message["headers"])
                if scope["path"] not in PROBES:
                    self._count(scope, message["status"], time.perf_counter() - started)
            await send(message)

        known = {"request_id": request_id}
        if trace := tracing.trace_id():
            known["trace_id"] = trace
        with structlog.contextvars.bound_contextvars(**known):
            await self._app(scope, receive, observed)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        REQUESTS.labels(self._service, scope["method"], route, status).inc()
        LATENCY.labels(self._service, scope["method"], route).observe(seconds)


class _Server(uvicorn.Server):
    """Gives signs of life to whoever watches the process, and tells the application that it is about to stop."""

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._beating = asyncio.create_task(_go_on_beating())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()
        await super().shutdown(sockets)


async def _go_on_beating() -> None:
    while True:
        beat()
        await asyncio.sleep(BEAT_S)


def server(app: FastAPI, url: str, *, drain_s: int = DRAIN_S) -> uvicorn.Server:
    """A uvicorn server that listens where `url` says and logs through the process's own handlers.

    Told to stop, it takes no more connections and lets open requests go on for `drain_s` seconds.
    """
    config = uvicorn.Config(
        app,
        host=host_of(url),
        port=port_of(url),
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing here asks where a request comes from
        timeout_graceful_shutdown=drain_s,
    )
    # Applications that others make (stand-ins of the tests) have nothing to end.
    return _Server(config, getattr(app.state, "stopping", lambda: None))


def serve(app: FastAPI, url: str, *, shared: bool = False, drain_s: int = DRAIN_S) -> None:
    """Run the application in this thread until SIGTERM or SIGINT.

    Args:
        shared: listen beside other processes of `libs.common.processes` on the same port.
        drain_s: how long open requests may go on after that.
    """
    # What was imported and built stays; looking through it again and again would hold up requests for a tenth of a second.
    gc.collect()
    gc.freeze()
    server(app, url, drain_s=drain_s).run(sockets=[listening_socket(url)] if shared else None)


class BackgroundServer:
    """The application on a thread of its own, for processes whose main thread does something else."""

    def __init__(self, app: FastAPI, url: str) -> None:
        self._server = server(app, url)
        # A thread may not install signal handlers; the main thread stops us.
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)

    def start(self, timeout_s: float = 30.0) -> None:
        """Start and wait until the port is open.

        Raises:
            RuntimeError: the server ended instead of listening (the port is taken, say).
        """
        self._thread.start()
        deadline = time.monotonic() + timeout_s
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"no server at {self._server.config.host}:{self._server.config.port}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop listening and wait for open requests, five seconds at most."""
        self._server.should_exit = True
        self._thread.join(timeout=6)
