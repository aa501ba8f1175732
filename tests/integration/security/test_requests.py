"""Requests that try to get through by their path, body or headers, and replays. Each is refused with a problem."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.security.conftest import CHUNK, World, assert_refused, standing_in_for

JSON = {"Content-Type": "application/json"}
CHAT = {"model": "gemma-3-270m", "messages": [{"role": "user", "content": "x"}]}


@dataclass(frozen=True)
class Attempt:
    """A request, and the statuses that refuse it."""

    method: str
    path: str
    statuses: tuple[int, ...]
    content: bytes | Callable[[], bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    anonymous: bool = False
    observing: bool = False


def _deep(levels: int, opening: str, closing: str) -> bytes:
    return (opening * levels + "1" + closing * levels).encode()


TRAVERSAL = {
    f"{name}: {address}": Attempt("GET", address, (400, 404, 405, 422))
    for name, address in {
        "dots in an id": "/v1/files/../../etc/passwd",
        "encoded dots": "/v1/files/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "dots encoded twice": "/v1/files/%252e%252e%252fetc%252fpasswd/content",
        "overlong dots": "/v1/files/%c0%ae%c0%ae/content",
        "a backslash": "/v1/files/..%5c..%5cwindows/content",
        "a NUL": "/v1/files/file_%00/content",
        "an absolute path": "/v1/files/%2fetc%2fpasswd/content",
        "a home": "/v1/files/~root/content",
        "a job that is a path": "/v1/jobs/..%2f..%2fsecrets.json/events",
        "a report that is a path": "/v1/comparisons/..%2f..%2fapi_key/report.html",
        "a report of another form": "/v1/comparisons/cmp_1/report.py",
        "a model that is a path": "/v1/models/..%2f..%2f..%2fetc",
        "a section that is a path": "/v1/config/..%2fsecrets",
        "an index that is a path": "/v1/indexes/..%2fapi_key",
        "another address": "/v1/evaluations/eval_1%2f..%2f..%2fadapters",
        "a query in an id": "/v1/evaluations/eval_1%3fx=1/items",
        "the data directory": "/.local/share/model-training/api_key",
        "what frameworks leave open": "/static/../services/gateway/main.py",
        "environment files": "/.env",
    }.items()
}
BODIES = {
    "lists in lists": Attempt("POST", "/v1/evaluations", (400, 422), _deep(100_000, "[", "]"), JSON),
    "objects in objects": Attempt("POST", "/v1/comparisons", (400, 422), _deep(50_000, '{"a":', "}"), JSON),
    "a deep value in an open field": Attempt(
        "POST",
        "/v1/fine_tuning/jobs",
        (422,),
        b'{"model": "gemma-3-270m", "training_file": "x", "training": {"a": ' + _deep(60, "[", "]") + b"}}",
        JSON,
    ),
    "a million names": Attempt(
        "POST",
        "/v1/projects",
        (403, 413, 422),
        lambda: json.dumps({f"k{n}": 1 for n in range(200_000)}).encode(),
        JSON,
    ),
    "a number of a million digits": Attempt(
        "POST", "/v1/indexes", (400, 422), b'{"name": ' + b"9" * 1_000_000 + b"}", JSON
    ),
    "no number": Attempt("POST", "/v1/chat/completions", (400, 422), b'{"temperature": NaN}', JSON),
    "no text": Attempt("POST", "/v1/indexes", (400, 422), b'{"name": "\\ud800", "files": []}', JSON),
    "broken bytes": Attempt("POST", "/v1/indexes", (400, 422), b'{"name": "\xff\xfe"}', JSON),
    "a compressed bomb": Attempt(
        "POST",
        "/v1/evaluations",
        (400, 415, 422),
        lambda: gzip.compress(b" " * 50_000_000),
        {**JSON, "Content-Encoding": "gzip"},
    ),
    "more than is allowed": Attempt("POST", "/v1/evaluations", (413,), b"x" * 5_000_000, JSON),
    "XML with entities": Attempt(
        "POST",
        "/v1/indexes",
        (400, 415, 422),
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        {"Content-Type": "application/xml"},
    ),
    "a form where JSON belongs": Attempt(
        "POST",
        "/v1/chat/completions",
        (400, 415, 422),
        b"model=gemma-3-270m&messages=x",
        {"Content-Type": "application/x-www-form-urlencoded"},
    ),
    "unknown fields": Attempt(
        "POST", "/v1/indexes", (422,), b'{"name": "x", "files": [], "project_id": "proj_default"}', JSON
    ),
    "a prototype": Attempt(
        "POST",
        "/v1/fine_tuning/jobs",
        (400, 404, 422),
        b'{"model": "gemma-3-270m", "training_file": "x", "training": {"__class__": 1, "__init__": 2}}',
        JSON,
    ),
    "code in a template": Attempt(
        "POST",
        "/v1/pipelines",
        (400, 422),
        json.dumps(
            {
                "name": "x",
                "steps": [{"name": "a", "kind": "train", "body": {"model": "{{ ''.__class__.__mro__ }}"}}],
            }
        ).encode(),
        JSON,
    ),
    "SQL in an id": Attempt("GET", "/v1/jobs/x'%20or%20'1'='1", (404,)),
    "SQL in a cursor": Attempt("GET", "/v1/jobs?after=x'--", (422,)),
    "SQL in a filter": Attempt("GET", "/v1/jobs?state=queued'%20or%201=1--", (422,)),
    "SQL in a label": Attempt(
        "GET", "/v1/monitoring/history?metric=mt_x&match=a=b'or'1", (422,), observing=True
    ),
    "a limit beyond all": Attempt("GET", "/v1/jobs?limit=99999999999999999999", (422,)),
    "a page before the first": Attempt("GET", "/v1/jobs/job_1/events?after=-1", (404, 422)),
}
HEADERS = {
    "another host": Attempt("GET", "/v1/jobs", (400,), headers={"Host": "evil.example"}),
    "a host that ends alike": Attempt("GET", "/v1/jobs", (400,), headers={"Host": "localhost.evil.example"}),
    "a host with a user": Attempt("GET", "/v1/jobs", (400,), headers={"Host": "localhost@evil.example"}),
    "no host": Attempt("GET", "/v1/jobs", (400,), headers={"Host": ""}),
    "a page elsewhere": Attempt("GET", "/v1/jobs", (403,), headers={"Origin": "https://evil.example"}),
    "a page without origin": Attempt("POST", "/v1/jobs/j/cancel", (403,), headers={"Origin": "null"}),
    "a page of a file": Attempt("GET", "/v1/jobs", (403,), headers={"Origin": "file://"}),
    "a page that ends alike": Attempt(
        "GET", "/v1/jobs", (403,), headers={"Origin": "http://localhost.evil.example"}
    ),
    "a page with our name as user": Attempt(
        "GET", "/v1/jobs", (403,), headers={"Origin": "http://localhost@evil.example"}
    ),
    "a preflight": Attempt(
        "OPTIONS",
        "/v1/jobs",
        (403,),
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
        anonymous=True,
    ),
    "a simple form from elsewhere": Attempt(
        "POST",
        "/v1/files",
        (403,),
        b"x",
        {"Origin": "https://evil.example", "Content-Type": "multipart/form-data; boundary=x"},
    ),
    "no key": Attempt("GET", "/v1/jobs", (401,), anonymous=True),
    "a key in the address": Attempt("GET", "/v1/jobs?api_key=mt-x", (401,), anonymous=True),
    "a key in a cookie": Attempt(
        "GET", "/v1/jobs", (401,), headers={"Cookie": "api_key=mt-x"}, anonymous=True
    ),
    "basic credentials": Attempt(
        "GET", "/v1/jobs", (401,), headers={"Authorization": "Basic YWRtaW46YWRtaW4="}, anonymous=True
    ),
    "a bearer of nothing": Attempt(
        "GET", "/v1/jobs", (401,), headers={"Authorization": "Bearer -"}, anonymous=True
    ),
    "a bearer of other letters": Attempt(
        "GET", "/v1/jobs", (401,), headers={"Authorization": "Bearer mt-\xe9"}, anonymous=True
    ),
    "a very long bearer": Attempt(
        "GET", "/v1/jobs", (401,), headers={"Authorization": "Bearer " + "m" * 20_000}, anonymous=True
    ),
    "a method by header": Attempt(
        "POST", "/v1/files", (400, 422), b"", {"X-HTTP-Method-Override": "DELETE", **JSON}
    ),
    "a path by header": Attempt("GET", "/v1/jobs/nope", (404,), headers={"X-Original-URL": "/v1/api_keys"}),
    "a stream from a negative event": Attempt(
        "GET", "/v1/jobs/j/events", (422,), headers={"Last-Event-ID": "-1", "Accept": "text/event-stream"}
    ),
    "a stream from an event of text": Attempt(
        "GET", "/v1/jobs/j/events", (422,), headers={"Last-Event-ID": "1 or 1", "Accept": "text/event-stream"}
    ),
    "an idempotency key beyond all": Attempt(
        "POST", "/v1/indexes", (422,), b"{}", {**JSON, "Idempotency-Key": "k" * 300}
    ),
    "a trace": Attempt("TRACE", "/v1/jobs", (404, 405)),
    "a tunnel": Attempt("CONNECT", "/v1/jobs", (400, 404, 405)),
}
ATTEMPTS = {**TRAVERSAL, **BODIES, **HEADERS}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_the_attempt_is_refused(world: World, name: str) -> None:
    attempt = ATTEMPTS[name]
    content = attempt.content() if callable(attempt.content) else attempt.content
    assert_refused(_send(world, attempt, content), *attempt.statuses)


def _send(world: World, attempt: Attempt, content: bytes | None) -> httpx.Response:
    key = world.observer if attempt.observing else world.attacker
    headers = {} if attempt.anonymous else {"Authorization": f"Bearer {key}"}
    with httpx.Client(timeout=60, verify=False) as http:  # without the certificates, which take longer
        request = http.build_request(
            attempt.method,
            world.gateway.url,
            content=content,
            headers={name: value.encode("latin-1") for name, value in (headers | attempt.headers).items()},
        )
        # As written: the client would put dots and percent signs in order first.
        request.url = request.url.copy_with(raw_path=attempt.path.encode())
        return http.send(request)


# --- what only shows on the wire -----------------------------------------------------------------------------------------

HOST = "Host: localhost\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
SMUGGLED = "GET /v1/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
RAW = {
    "length and chunks": f"POST /v1/jobs HTTP/1.1\r\n{HOST}Content-Length: 5\r\n{CHUNKED}\r\n0\r\n\r\n{SMUGGLED}",
    "two lengths": f"POST /v1/jobs HTTP/1.1\r\n{HOST}Content-Length: 0\r\nContent-Length: 9\r\n\r\n{SMUGGLED}",
    "a length of letters": f"POST /v1/jobs HTTP/1.1\r\n{HOST}Content-Length: 0x5\r\n\r\n{SMUGGLED}",
    "a negative length": f"POST /v1/jobs HTTP/1.1\r\n{HOST}Content-Length: -1\r\n\r\n{SMUGGLED}",
    "a length with a plus": f"POST /v1/jobs HTTP/1.1\r\n{HOST}Content-Length: +0\r\n\r\n{SMUGGLED}",
    "a space before the colon": f"POST /v1/jobs HTTP/1.1\r\n{HOST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "unknown coding": f"POST /v1/jobs HTTP/1.1\r\n{HOST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "chunks not last": f"POST /v1/jobs HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "a chunk of letters": f"POST /v1/jobs HTTP/1.1\r\n{HOST}{CHUNKED}\r\nzz\r\n\r\n{SMUGGLED}",
    "a folded header": f"GET /v1/jobs HTTP/1.1\r\n{HOST}X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n",
    "a bare line feed in a header": f"GET /v1/jobs HTTP/1.1\n{HOST}X-A: b\rX-B: c\r\n\r\n",
    "a NUL in a header": f"GET /v1/jobs HTTP/1.1\r\n{HOST}X-A: b\0c\r\n\r\n",
    "two hosts": f"GET /v1/jobs HTTP/1.1\r\n{HOST}Host: evil.example\r\n\r\n",
    "a host in the line and another": f"GET http://evil.example/v1/jobs HTTP/1.1\r\n{HOST}\r\n",
    "no version": "GET /v1/jobs\r\n\r\n",
    "another version": f"GET /v1/jobs HTTP/9.9\r\n{HOST}\r\n",
    "another protocol": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a very long line": f"GET /v1/{'a' * 200_000} HTTP/1.1\r\n{HOST}\r\n",
    "headers without end": f"GET /v1/jobs HTTP/1.1\r\n{HOST}" + "".join(f"X-{n}: {'a' * 1000}\r\n" for n in range(300)),
}  # fmt: skip


@pytest.mark.parametrize("name", RAW)
def test_nothing_is_smuggled(world: World, name: str) -> None:
    """The answer is a refusal, and a request hidden in another's body is not answered."""
    where = urlsplit(world.gateway.url)
    with socket.create_connection((where.hostname, where.port or 0), timeout=60) as connection:
        said = b""
        try:
            connection.sendall(RAW[name].encode("latin-1"))
            connection.shutdown(socket.SHUT_WR)
            while block := connection.recv(65_536):
                said += block
        except ConnectionError:
            pass
    statuses = [int(line.split()[1]) for line in said.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert all(400 <= status < 500 for status in statuses), said[:500]
    assert b"smuggled" not in said
    assert len(statuses) <= 1


# --- replays -------------------------------------------------------------------------------------------------------------


def test_a_key_for_one_request_is_none_for_another(world: World) -> None:
    headers = {"Idempotency-Key": f"replay-{time.time_ns()}"}
    with world.http() as http:
        file = _upload(http)
        first = http.post("/v1/indexes", json={"name": "one", "files": [file]}, headers=headers)
        assert first.status_code == 200, first.text
        assert_refused(http.post("/v1/indexes", json={"name": "two", "files": [file]}, headers=headers), 409)
        assert_refused(
            http.post(
                "/v1/evaluations",
                json={"model": "gemma-3-270m", "suites": [{"name": "humaneval"}]},
                headers=headers,
            ),
            409,
        )


def test_a_replay_from_another_project_tells_nothing(world: World) -> None:
    headers = {"Idempotency-Key": f"theirs-{time.time_ns()}"}
    body = {"name": "docs", "files": [world.ids["file_id"]]}
    with world.http(world.victim) as owner:
        made = owner.post("/v1/indexes", json=body, headers=headers)
        assert made.status_code == 200, made.text
    with world.http() as http:
        replay = http.post("/v1/indexes", json=body, headers=headers)
    assert_refused(replay, 404)
    assert made.json()["id"] not in replay.text


def test_a_replayed_key_is_made_once_and_its_secret_not_shown_again(world: World) -> None:
    headers = {"Idempotency-Key": f"secret-{time.time_ns()}"}
    with world.gateway.http() as admin:
        body = {"name": "x", "scopes": ["read"]}
        made, again = (admin.post("/v1/api_keys", json=body, headers=headers).json() for _ in range(2))
    assert (again["id"], again["key"]) == (made["id"], None)


def test_the_stream_of_another_project_is_not_replayed(world: World) -> None:
    path = f"/v1/jobs/{world.ids['job_id']}/events"
    with world.http() as http:
        for last in ("0", "1", "9007199254740992"):
            headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
            assert_refused(http.get(path, headers=headers), 404)


def _upload(http: httpx.Client, content: bytes = CHUNK, name: str = "c.jsonl") -> str:
    sent = http.post("/v1/files", files={"file": (name, content)}, data={"purpose": "chunks"})
    assert sent.status_code == 200, sent.text
    return sent.json()["id"]


# --- the services' own token, and what stands behind the door ------------------------------------------------------------


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
def test_the_services_token_opens_nothing_from_outside(world: World, stores: Any, header: str) -> None:
    token = stores.settings.internal_token.get_secret_value()
    with world.http(token) as http:
        assert http.get("/v1/jobs", params={"limit": 1}).status_code == 200, "a service of the platform may"
        assert_refused(http.get("/v1/jobs", headers={header: "203.0.113.9"}), 401)


def test_metrics_are_not_shown_outside(world: World) -> None:
    assert httpx.get(f"{world.gateway.url}/metrics").status_code == 200
    assert_refused(httpx.get(f"{world.gateway.url}/metrics", headers={"X-Forwarded-For": "203.0.113.9"}), 404)


def test_a_service_that_points_elsewhere_is_not_followed(world: World) -> None:
    """The request would carry the services' token to wherever the redirect leads."""
    elsewhere = f"{world.gateway.url}/v1/jobs"
    with (
        standing_in_for(world, "INFERENCE", "{}", status=307, Location=elsewhere) as asked,
        world.http() as http,
    ):
        answer = http.post("/v1/chat/completions", json=CHAT)
    assert asked == ["/v1/chat/completions"]
    assert_refused(answer, 503)


def test_what_a_request_says_cannot_break_the_log(world: World) -> None:
    forged = 'x\\n{"level": "critical", "message": "forged"}'
    with world.http() as http:
        answer = http.get("/v1/jobs", headers={"X-Request-ID": forged, "User-Agent": forged})
        http.get("/v1/jobs/%0a%7b%22message%22%3a%22forged%22%7d")
        http.get("/v1/jobs", params={"state": "\r\n\x1b[31mforged"})
    assert answer.headers["x-request-id"].startswith("req_")
    lines = world.gateway.log.read_text(encoding="utf-8").splitlines()
    assert lines, "the gateway logs"
    assert not [line for line in lines if json.loads(line).get("message") == "forged"]
    assert not [line for line in lines if "\x1b" in line]
