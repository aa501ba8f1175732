"""Renders every error of a service as RFC 9457 problem+json."""

from __future__ import annotations

import json
import math
import re
from typing import Any, cast

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from libs.common.errors import PlatformError, Unavailable
from model_training.contracts.problems import OpenAIError, Problem

_UNION_MEMBER = re.compile(r"[\[(]|^(constrained-)?(int|float|str|bool|list|dict|none)$")

log = structlog.get_logger(__name__)

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)
"""What SQLAlchemy raises when PostgreSQL is away, or every connection is taken."""

OPENAI_PATHS = ("/v1/fine_tuning", "/v1/files", "/v1/models", "/v1/chat", "/v1/completions", "/v1/embeddings")
"""Paths under which OpenAI clients expect the body to carry `error`."""


HTTP_CODES = {400: "invalid_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def install(app: FastAPI) -> None:
    """Register the handlers that turn exceptions into problems."""
    app.add_exception_handler(PlatformError, _platform_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    for kind in DATABASE_AWAY:
        app.add_exception_handler(kind, _database_away)
    app.add_exception_handler(Exception, _unexpected)


def respond(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """The problem as a response; OpenAI's `error` beside it on OpenAI's paths."""
    if request.url.path.startswith(OPENAI_PATHS):
        kind = "invalid_request_error" if problem.status < 500 else "server_error"
        problem.error = OpenAIError(
            message=problem.detail if problem.hint is None else f"{problem.detail} {problem.hint}",
            type=kind,
            param=problem.param,
            code=problem.code,
        )
    # Escaped to ASCII: what a client sent and we quote need not be text that can be encoded.
    body = json.dumps(problem.model_dump(exclude_none=True))
    return Response(body, problem.status, headers=headers, media_type="application/problem+json")


def respond_to(request: Request, error: PlatformError) -> Response:
    """An error of the platform as a response."""
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return respond(request, error.problem(), headers)


async def _platform_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PlatformError)
    return respond_to(request, error)


async def _database_away(request: Request, error: Exception) -> Response:
    return respond_to(request, database_away(error))


def database_away(error: Exception) -> Unavailable:
    """What a client is told when PostgreSQL cannot be reached or is too busy. Nothing was done; asking again is safe."""
    log.warning("database_away", error=str(error).splitlines()[0])
    return Unavailable("The database does not answer.", hint="Try again shortly.", retry_after_s=1.0)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = error.errors()
    problem = Problem(
        type="urn:model-training:problem:invalid_shape",
        title="The request does not have the right shape",
        status=422,
        detail="; ".join(f"{_field(fault) or 'body'}: {fault['msg']}" for fault in faults[:5]),
        code="invalid_shape",
        param=_field(faults[0]),
    )
    return respond(request, problem)


def _field(fault: dict[str, Any]) -> str | None:
    """The field that a fault is about: without where it was sent, and without the members of a union that were tried."""
    inner = fault.get("ctx", {}).get("path")
    parts = [str(part) for part in fault["loc"][1:] if not _UNION_MEMBER.search(str(part))]
    return ".".join([*parts, *([inner] if inner else [])]) or None


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTP_CODES.get(error.status_code, "http_error")
    detail = (
        f"There is nothing at {request.method} {request.url.path}."
        if error.status_code == 404
        else error.detail
    )
    problem = Problem(
        title="The request cannot be served", status=error.status_code, detail=detail, code=code
    )
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request)) or headers.get("Allow", "")
    return respond(request, problem, headers)


def _methods(request: Request) -> list[str]:
    """The methods of an address, over all its routes; a router names those of one route."""
    paths = cast("FastAPI", request.app).openapi()["paths"]
    here = request.url.path
    if here in paths:
        return sorted(method.upper() for method in paths[here])
    found = [paths[template] for template in paths if compile_path(template)[0].match(here)]
    return sorted({method.upper() for methods in found for method in methods})


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unhandled", path=request.url.path, exc_info=error)
    problem = Problem(
        title="The platform failed",
        status=500,
        detail="An unexpected error happened; it is in the service's log.",
        code="internal_error",
        blame="system",
    )
    return respond(request, problem)
