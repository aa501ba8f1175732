"""Renders every error of a service as RFC 9457 problem+json."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from libs.common.errors import PlatformError
from model_training.contracts.problems import OpenAIError, Problem

log = structlog.get_logger(__name__)

OPENAI_PATHS = ("/v1/fine_tuning", "/v1/files", "/v1/models", "/v1/chat", "/v1/completions", "/v1/embeddings")
"""Paths under which OpenAI clients expect the body to carry `error`."""


def install(app: FastAPI) -> None:
    """Register the handlers that turn exceptions into problems."""
    app.add_exception_handler(PlatformError, _platform_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _unexpected)


def respond(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """The problem as a response; OpenAI's `error` beside it on OpenAI's paths."""
    if request.url.path.startswith(OPENAI_PATHS):
        kind = "invalid_request_error" if problem.status < 500 else "server_error"
        problem.error = OpenAIError(
            message=problem.detail if problem.hint is None else f"{problem.detail} {problem.hint}",
            type=kind,
            param=problem.param,
            code=problem.code,
        )
    body = problem.model_dump(mode="json", exclude_none=True)
    return JSONResponse(body, problem.status, headers=headers, media_type="application/problem+json")


async def _platform_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PlatformError)
    headers = (
        {"Retry-After": str(max(1, round(error.retry_after_s)))} if error.retry_after_s is not None else None
    )
    return respond(request, error.problem(), headers)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    problem = Problem(
        type="urn:model-training:problem:invalid_shape",
        title="The request does not have the right shape",
        status=422,
        detail="; ".join(_complaint(e) for e in error.errors()[:5]),
        code="invalid_shape",
        param=".".join(where) or None,
    )
    return respond(request, problem)


def _complaint(error: dict[str, Any]) -> str:
    location: tuple[object, ...] = error["loc"]
    return f"{'.'.join(str(part) for part in location)}: {error['msg']}"


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    detail = (
        f"There is nothing at {request.method} {request.url.path}."
        if error.status_code == 404
        else error.detail
    )
    problem = Problem(
        title="The request cannot be served", status=error.status_code, detail=detail, code=code
    )
    return respond(request, problem, dict(error.headers) if error.headers else None)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("unhandled", path=request.url.path, exc_info=error)
    problem = Problem(
        title="The platform failed",
        status=500,
        detail="An unexpected error happened; it is in the service's log.",
        code="internal_error",
        blame="system",
    )
    return respond(request, problem)
