"""A gateway process whose neighbours answer, and only answer, what the API's own description shows as examples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, compile_path

from libs.common.db.engine import Database
from libs.common.service import BackgroundServer
from tests.conftest import Stores, free_ports
from tests.integration.gateway.conftest import (
    NEIGHBOURS,
    RunningGateway,
    keeper,
    running_gateway,
    stores_home,
)
from tests.integration.gateway.test_keys_and_projects import make_key, make_project

__all__ = ["document", "gateway", "keeper", "neighbours", "stores_home"]

CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gemma-3-270m"}


class Neighbours:
    """Inference, retrieval, evaluator, comparator and monitor, as far as the gateway can tell."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {"paths": {}}

    async def answer(self, request: Request) -> Response:
        """The example of the operation with this path."""
        if request.method == "POST":
            body = await request.json()
            if "break" in json.dumps(body.get("messages", [])):
                problem = {"title": "Away", "status": 503, "detail": "Nobody is here.", "code": "unavailable"}
                return JSONResponse(problem, 503, media_type="application/problem+json")
            if body.get("stream"):
                return StreamingResponse(_stream(), media_type="text/event-stream")
        for template, operations in self.document["paths"].items():
            operation = operations.get(request.method.lower())
            if operation and compile_path(template)[0].match(request.url.path):
                return _example(operation["responses"]["200"]["content"], request.url.path)
        return JSONResponse({"detail": "nothing here"}, 404)


def _example(contents: dict[str, Any], path: str) -> Response:
    kinds = {"html": "text/html", "md": "text/markdown", "csv": "text/csv", "jsonl": "application/jsonl"}
    kind = kinds.get(path.rpartition(".")[2], "application/json")
    example = contents[kind]["example"]
    return JSONResponse(example) if kind == "application/json" else Response(example, media_type=kind)


def _stream() -> Iterator[str]:
    for text in ("Hello", " there"):
        choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
        yield f"data: {json.dumps({**CHUNK, 'choices': [choice]})}\n\n"
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    yield f"data: {json.dumps({**CHUNK, 'choices': [end]})}\n\ndata: [DONE]\n\n"


@pytest.fixture(scope="session")
def neighbours() -> Iterator[tuple[Neighbours, str]]:
    parts = Neighbours()
    url = f"http://127.0.0.1:{free_ports(1)}"
    app: Any = Starlette(routes=[Route("/{path:path}", parts.answer, methods=["GET", "POST"])])
    server = BackgroundServer(app, url)
    server.start()
    yield parts, url
    server.stop()


@pytest.fixture(scope="session")
def gateway(
    stores: Stores, database: Database, neighbours: tuple[Neighbours, str]
) -> Iterator[RunningGateway]:
    parts, url = neighbours
    others = {f"MT_{name}_URL": url for name in NEIGHBOURS if name != "GATEWAY"}
    with running_gateway(stores, others) as running:
        parts.document = httpx.get(f"{running.url}/openapi.json", timeout=60).json()
        # A project of its own: others put jobs of every kind and shape into the default one, past the API.
        with running.http() as admin:
            project = make_project(admin, "contract")["id"]
            key = make_key(admin, project=project, scopes=["read", "submit", "infer", "admin"])
        yield replace(running, key=key["key"])


@pytest.fixture(scope="session")
def document(gateway: RunningGateway) -> dict[str, Any]:
    """What the gateway says of itself."""
    return httpx.get(f"{gateway.url}/openapi.json", timeout=60).json()
