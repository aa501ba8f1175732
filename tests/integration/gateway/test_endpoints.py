"""Endpoints of others through a real gateway: what they are sent, what becomes of their faults, and their keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import Request, Response
from sqlalchemy import text

from libs.common.db.engine import Database
from libs.common.service import BackgroundServer, create_app
from tests.conftest import Stores, free_ports
from tests.integration.gateway.conftest import RunningGateway, running_gateway

SECRET = "sk-nobody-may-see-this"
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
REPLY = {
    "id": "c",
    "created": 1,
    "model": "theirs",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": USAGE,
}


@dataclass
class Theirs:
    """Somebody else's endpoint: answers with `reply`, remembers what it was sent."""

    url: str = ""
    reply: Response = field(default_factory=lambda: Response(json.dumps(REPLY), 200))
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture(scope="module")
def theirs() -> Iterator[Theirs]:
    app, found = create_app("theirs"), Theirs()

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        found.asked.append(await request.json())
        found.headers.append(dict(request.headers))
        return found.reply

    @app.post("/elsewhere")
    def elsewhere() -> Response:
        raise AssertionError("a redirect was followed")

    found.url = f"http://127.0.0.1:{free_ports(1)}"
    server = BackgroundServer(app, found.url)
    server.start()
    yield found
    server.stop()


@pytest.fixture(scope="module")
def gateway(stores: Stores, database: Database) -> Iterator[RunningGateway]:
    with running_gateway(stores, {"MT_EGRESS_ALLOWED": '["127.0.0.1"]'}) as running:
        yield running


@pytest.fixture
def http(gateway: RunningGateway, theirs: Theirs) -> Iterator[httpx.Client]:
    """A client; the endpoint `big` is known and answers well."""
    theirs.asked.clear()
    theirs.headers.clear()
    theirs.reply = Response(json.dumps(REPLY), 200)
    with gateway.http() as client:
        order = {"name": "big", "url": f"{theirs.url}/v1/", "model": "big-2", "key": SECRET}
        made = client.post("/v1/endpoints", json={**order, "million_prompt_tokens_usd": 2.5})
        assert made.status_code in (200, 409), made.text
        yield client


def ask(http: httpx.Client, **changes: Any) -> httpx.Response:
    body = {"model": "external:big", "messages": [{"role": "user", "content": "Hi"}], **changes}
    return http.post("/v1/chat/completions", json=body)


def test_an_endpoint_is_asked_with_its_key_and_nothing_else_of_the_platform(
    http: httpx.Client, theirs: Theirs, stores: Stores
) -> None:
    reply = ask(http, max_tokens=5, return_prompt=True, retrieval={"passages": 2}, timeout_s=30)
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["message"]["content"] == "Hello"
    assert reply.json()["model"] == "external:big"
    assert reply.json()["usage"] == USAGE
    (asked,), (headers,) = theirs.asked, theirs.headers
    assert asked == {
        "model": "big-2",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0.0,
        "max_tokens": 5,
    }
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert stores.settings.internal_token.get_secret_value() not in str(headers)
    assert not [name for name in headers if name.startswith("x-")]


def test_its_key_is_nowhere_to_be_read(http: httpx.Client, database: Database) -> None:
    listed = http.get("/v1/endpoints")
    assert listed.json()["data"][0]["has_key"] is True
    assert SECRET not in listed.text
    assert SECRET not in http.get("/v1/audit", params={"action": "endpoint.created"}).text
    with database.session() as session:
        tables = ("endpoints", "audit_log", "idempotency_keys")
        rows = [str(row) for table in tables for row in session.execute(text(f"select * from {table}"))]
    assert any("big" in row for row in rows)
    assert not any(SECRET in row for row in rows)


def test_a_stream_is_passed_on(http: httpx.Client, theirs: Theirs) -> None:
    events = 'data: {"choices": [{"delta": {"content": "He"}}]}\n\ndata: [DONE]\n\n'
    theirs.reply = Response(events, 200, media_type="text/event-stream")
    reply = ask(http, stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.text == events
    assert theirs.asked[0]["stream"] is True


@pytest.mark.parametrize(
    ("reply", "status", "says"),
    [
        (
            Response('{"error": {"message": "no such key"}}', 401),
            409,
            "does not serve this (401: no such key)",
        ),
        (Response("{}", 404), 409, "(404"),
        (Response(status_code=302, headers={"location": "/elsewhere"}), 409, "(302"),
        (Response("slow down", 429, headers={"retry-after": "7"}), 429, "is busy"),
        (Response("oops", 500), 503, "is not ready"),
        (Response('{"error": "too long"}', 400), 400, "refuses the request (400: too long)"),
        (Response("<html>", 200), 502, "is not a chat completion"),
        (Response(json.dumps({**REPLY, "usage": None}), 200), 502, "usage"),
        (Response(json.dumps({**REPLY, "choices": []}), 200), 502, "no choice"),
        (Response(" " * 9_000_000, 200), 502, "more than"),
    ],
    ids=["key", "model", "redirect", "busy", "down", "too long", "page", "no usage", "no choice", "flood"],
)
def test_its_faults_are_told_as_what_they_are(
    http: httpx.Client, theirs: Theirs, reply: Response, status: int, says: str
) -> None:
    theirs.reply = reply
    answer = ask(http)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]
    if status == 429:
        assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"url": "http://10.0.0.5/v1"}, 400, "url"),
        ({"url": "http://169.254.169.254/v1"}, 400, "url"),
        ({"url": "ftp://127.0.0.1/v1"}, 400, "url"),
        ({"url": "http://me:secret@127.0.0.1/v1"}, 400, "url"),
        ({"name": "big"}, 409, "name"),
        ({"name": "No Good"}, 422, "name"),
    ],
)
def test_what_cannot_be_made_known(
    http: httpx.Client, theirs: Theirs, body: dict[str, str], status: int, param: str
) -> None:
    answer = http.post(
        "/v1/endpoints", json={"name": "other", "url": f"{theirs.url}/v1", "model": "m", **body}
    )
    assert answer.status_code == status, answer.text
    assert answer.json()["param"] == param


def test_names_that_make_no_sense(http: httpx.Client) -> None:
    assert ask(http, model="external:nobody").status_code == 404
    assert ask(http, model="rag:docs@external:big").status_code == 400
    body = {"model": "external:big", "prompt": "Once"}
    assert http.post("/v1/completions", json=body).status_code == 400


def test_a_comparison_counts_its_tokens_and_not_our_machine(http: httpx.Client) -> None:
    arms = [{"name": "base", "model": "gemma-3-270m"}, {"name": "big", "model": "external:big"}]
    made = http.post("/v1/comparisons", json={"arms": arms, "test_queries": ["Why?"]})
    assert made.status_code == 200, made.text
    prices = made.json()["arms"][1]["prices"]
    assert (prices["machine_hour_usd"], prices["million_prompt_tokens_usd"]) == (0.0, 2.5)
    assert made.json()["arms"][0]["prices"] is None
    in_use = http.delete("/v1/endpoints/big")
    assert (in_use.status_code, in_use.json()["param"]) == (409, "name")
    http.post(f"/v1/jobs/{made.json()['id']}/cancel")
    assert http.delete("/v1/endpoints/big").status_code == 200
    assert ask(http).status_code == 404
