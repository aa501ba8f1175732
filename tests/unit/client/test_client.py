"""The client against a real HTTP server that misbehaves on purpose."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from model_training.client import ApiError, Client, ConnectionFailed, JobFailed
from model_training.client.resources import jobs as jobs_resource
from model_training.contracts.indexes import Index
from model_training.errors import UserError


@dataclass(frozen=True)
class Answer:
    """One answer. `hang_up` closes the connection after the body, without saying how long it would be."""

    status: int = 200
    body: str = "{}"
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False
    say_nothing: bool = False


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class ScriptedServer(ThreadingHTTPServer):
    """Answers by route, the last answer of a route again and again."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, deque[Answer]] = {}
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def on(self, route: str, *answers: Answer) -> None:
        """Set the answers of a route, `GET /v1/jobs`."""
        self.answers[route] = deque(answers)


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = self.path.partition("?")[0]
        self.server.asked.append(Asked(self.command, self.path, dict(self.headers), body))
        queue = self.server.answers.get(f"{self.command} {path}")
        answer = Answer(404, '{"detail": "not scripted"}') if not queue else queue[0]
        if queue and len(queue) > 1:
            queue.popleft()
        if answer.say_nothing:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if not answer.hang_up:
            self.send_header("content-length", str(len(answer.body.encode())))
        self.end_headers()
        self.wfile.write(answer.body.encode())
        self.close_connection = True

    do_GET = do_POST = do_DELETE = do_PATCH = _answer

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Generator[ScriptedServer]:
    """A server for the length of a block."""
    server = ScriptedServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


NOW = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
JSON = {"content-type": "application/json"}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serving() as server:
        yield server


@pytest.fixture
def client(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(jobs_resource, "RECONNECT_PAUSE_S", 0.01)
    with Client(server.url, "mt-test") as client:
        yield client


def job(state: str, **more: object) -> str:
    return json.dumps({"id": "ftjob_1", "kind": "train", "state": state, "created_at": NOW, **more})


def event(sequence: int) -> dict[str, object]:
    return {
        "job_id": "ftjob_1",
        "sequence": sequence,
        "created_at": NOW,
        "type": "message",
        "message": f"event {sequence}",
    }


def sse(*sequences: int, end: bool = False) -> str:
    text = "".join(f"id: {n}\nevent: message\ndata: {json.dumps(event(n))}\n\n" for n in sequences)
    return text + ("event: end\ndata: {}\n\n" if end else "")


def page(items: list[dict[str, object]], *, last: str | None = None, more: bool = False) -> str:
    return json.dumps({"data": items, "last_id": last, "has_more": more})


def problem(status: int, **more: object) -> Answer:
    body = {"title": "t", "status": status, "detail": "what is wrong", "code": "some_code", **more}
    return Answer(status, json.dumps(body), {"content-type": "application/problem+json"})


def test_a_problem_becomes_an_exception_with_its_way_out(server: ScriptedServer, client: Client) -> None:
    rows = [{"row": 3, "field": "answer", "message": "is empty"}]
    server.on("GET /v1/jobs/x", problem(404, hint="look there", param="id", rows=rows))
    with pytest.raises(ApiError) as caught:
        client.jobs.get("x")
    error = caught.value
    assert (error.status, error.code, error.param, error.hint) == (404, "some_code", "id", "look there")
    assert error.rows[0].row == 3
    assert isinstance(error, UserError)
    assert server.asked[0].headers["Authorization"] == "Bearer mt-test"


def test_an_answer_that_is_no_problem_is_summed_up(server: ScriptedServer, client: Client) -> None:
    server.on("GET /v1/jobs/x", Answer(500, "<html>"))
    with pytest.raises(ApiError, match="answered 500"):
        client.jobs.get("x")


def test_it_waits_as_long_as_it_is_told_and_creates_once(server: ScriptedServer, client: Client) -> None:
    created = json.dumps(
        {"id": "idx_1", "name": "docs", "state": "queued", "created_at": NOW, "embedder": "m"}
    )
    busy = Answer(429, "{}", {"Retry-After": "0"})
    server.on("POST /v1/indexes", busy, Answer(say_nothing=True), Answer(200, created))
    index = client.indexes.create("docs", ["file_1"])
    assert isinstance(index, Index)
    keys = {asked.headers["Idempotency-Key"] for asked in server.asked}
    assert len(server.asked) == 3
    assert len(keys) == 1, "every attempt must carry the same key, or it would create twice"


def test_two_creates_have_two_keys(server: ScriptedServer, client: Client) -> None:
    created = json.dumps(
        {"id": "idx_1", "name": "docs", "state": "queued", "created_at": NOW, "embedder": "m"}
    )
    server.on("POST /v1/indexes", Answer(200, created))
    client.indexes.create("docs", ["file_1"])
    client.indexes.create("docs", ["file_1"])
    assert len({asked.headers["Idempotency-Key"] for asked in server.asked}) == 2


def test_patience_has_an_end(server: ScriptedServer) -> None:
    server.on("GET /v1/jobs/x", Answer(503, "{}", {"Retry-After": "0"}))
    with Client(server.url, "k", attempts=3) as client, pytest.raises(ApiError, match="503"):
        client.jobs.get("x")
    assert len(server.asked) == 3


def test_a_refusal_is_not_repeated(server: ScriptedServer, client: Client) -> None:
    server.on("GET /v1/jobs/x", problem(400))
    with pytest.raises(ApiError):
        client.jobs.get("x")
    assert len(server.asked) == 1


def test_an_upload_is_sent_whole_again(server: ScriptedServer, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "q", "answer": "a"}\n', encoding="utf-8")
    reply = {
        "id": "file_1",
        "bytes": 1,
        "created_at": 1,
        "filename": "r",
        "purpose": "fine-tune",
        "sha256": "0",
    }
    server.on("POST /v1/files", Answer(503, "{}", {"Retry-After": "0"}), Answer(200, json.dumps(reply)))
    client.files.upload(path, "fine-tune")
    assert all(path.read_bytes() in asked.body and b"fine-tune" in asked.body for asked in server.asked)
    assert len(server.asked) == 2


def test_missing_file_and_unknown_purpose_are_named(client: Client, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl is not a file"):
        client.files.upload(tmp_path / "none.jsonl", "fine-tune")
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(UserError, match="purpose 'batch' is none") as caught:
        client.files.upload(tmp_path / "a.jsonl", "batch")
    assert "fine-tune" in (caught.value.hint or "")


STREAM = {"content-type": "text/event-stream"}


def test_a_broken_stream_is_taken_up_after_the_last_event(server: ScriptedServer, client: Client) -> None:
    """The gateway restarts: the stream breaks, nobody answers, then it is not ready yet."""
    server.on("GET /v1/jobs/ftjob_1", Answer(say_nothing=True), Answer(body=job("running")))
    server.on(
        "GET /v1/jobs/ftjob_1/events",
        Answer(body=sse(1, 2), headers=STREAM, hang_up=True),
        Answer(say_nothing=True),
        problem(503),
        Answer(body=sse(3, end=True), headers=STREAM),
    )
    seen = [e.sequence for e in client.jobs.watch("ftjob_1")]
    assert seen == [1, 2, 3]
    resumed = [a.headers["Last-Event-ID"] for a in server.asked if "text/event-stream" in a.headers["Accept"]]
    assert resumed == ["0", "2", "2", "2"]


def test_watching_what_is_not_there_says_so(server: ScriptedServer, client: Client) -> None:
    server.on("GET /v1/jobs/ftjob_1/events", problem(404))
    with pytest.raises(ApiError, match="what is wrong"):
        list(client.jobs.watch("ftjob_1"))
    assert len(server.asked) == 1


def test_following_brings_every_event_and_point_once(
    server: ScriptedServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_resource, "METRICS_EVERY_S", 0.0)
    points = [{"step": step, "created_at": NOW, "values": {"loss": 3.0 - step}} for step in (1, 2)]
    progress = 'event: progress\ndata: {"fraction": 0.5, "message": "halfway"}\n\n'
    server.on("GET /v1/jobs/ftjob_1", Answer(body=job("running")), Answer(body=job("succeeded")))
    server.on(
        "GET /v1/jobs/ftjob_1/events",
        Answer(body=sse(1) + progress, headers=STREAM, hang_up=True),
        Answer(body=sse(2, end=True), headers=STREAM),
    )
    server.on(
        "GET /v1/jobs/ftjob_1/metrics",
        Answer(body=page([points[0]], last="1")),
        Answer(body=page([points[1]], last="2")),
        Answer(body=page([])),
    )
    updates = list(client.jobs.follow("ftjob_1"))
    assert [e.sequence for u in updates for e in u.events] == [1, 2]
    assert [p.values["loss"] for u in updates for p in u.metrics] == [2.0, 1.0]
    assert "halfway" in [u.job.progress.message for u in updates]
    assert updates[-1].job.state == "succeeded"


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_respected(
    server: ScriptedServer, client: Client, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("model_training.client.transport.time.sleep", slept.append)
    later = (
        "40" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    )
    server.on(
        "GET /v1/jobs/x",
        Answer(429, "{}", {"Retry-After": later}),
        Answer(body=job("running")),
    )
    client.jobs.get("x")
    assert slept == [pytest.approx(40, abs=2)]


def test_a_gateway_that_asks_for_too_much_patience_is_not_asked_again(
    server: ScriptedServer, client: Client
) -> None:
    server.on("GET /v1/jobs/x", problem(429, hint="come back tomorrow"))
    server.answers["GET /v1/jobs/x"][0].headers["Retry-After"] = "86400"
    with pytest.raises(ApiError) as caught:
        client.jobs.get("x")
    assert caught.value.hint == "come back tomorrow"
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 413, 422, 500, 501])
def test_other_answers_are_never_asked_for_again(server: ScriptedServer, client: Client, status: int) -> None:
    server.on("POST /v1/indexes", problem(status))
    with pytest.raises(ApiError):
        client.indexes.create("docs", ["file_1"])
    assert len(server.asked) == 1


def test_the_champion_is_moved_from_the_version_that_was_seen(server: ScriptedServer, client: Client) -> None:
    move = {"alias": "champion", "model": "model_1", "version": 3, "created_at": NOW}
    server.on("GET /v1/models/champion/history", Answer(body=page([move])), Answer(body=page([])))
    server.on("POST /v1/models/model_2/promote", Answer(body=json.dumps({**move, "version": 4})))
    client.models.promote("model_2", reason="better")
    client.models.promote("model_2")
    asked = [a for a in server.asked if a.method == "POST"]
    assert [a.headers["If-Match"] for a in asked] == ['"3"', '"0"']
    assert json.loads(asked[0].body) == {"reason": "better"}


def test_waiting_for_a_job_that_fails_says_why(server: ScriptedServer, client: Client) -> None:
    error = {"code": "out_of_memory", "message": "it needs 9 GB", "hint": "use a smaller batch"}
    server.on("GET /v1/jobs/ftjob_1", Answer(body=job("failed", error=error)))
    with pytest.raises(JobFailed, match="it needs 9 GB") as caught:
        client.jobs.wait("ftjob_1")
    assert caught.value.hint == "use a smaller batch"


def test_chat_streams_pieces_and_reports_a_broken_answer(server: ScriptedServer, client: Client) -> None:
    def chunk(text: str) -> str:
        return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"

    stream = {"content-type": "text/event-stream"}
    good = chunk("a") + chunk("b") + "data: [DONE]\n\n"
    bad = chunk("a") + 'data: {"error": {"message": "out of memory"}}\n\n'
    server.on(
        "POST /v1/chat/completions", Answer(body=good, headers=stream), Answer(body=bad, headers=stream)
    )
    assert list(client.chat.stream("gemma-3-270m", "hi")) == ["a", "b"]
    with pytest.raises(ApiError, match="out of memory"):
        list(client.chat.stream("gemma-3-270m", "hi"))


def test_nobody_there_names_the_way_out() -> None:
    with Client("http://127.0.0.1:1", "k", attempts=1) as client, pytest.raises(ConnectionFailed) as caught:
        client.jobs.get("x")
    assert "http://127.0.0.1:1" in caught.value.message
    assert "mt up" in (caught.value.hint or "")


def test_url_and_key_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MT_GATEWAY_URL", "MT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MT_HOME", str(tmp_path))
    with pytest.raises(UserError, match="No platform was ever started"):
        Client()
    (tmp_path / "platform.json").write_text('{"gateway_url": "http://127.0.0.1:9"}', encoding="utf-8")
    with pytest.raises(UserError, match="No API key"):
        Client()
    (tmp_path / "api_key").write_text("mt-abc\n", encoding="utf-8")
    with Client() as client:
        assert client.base_url == "http://127.0.0.1:9"
    monkeypatch.setenv("MT_GATEWAY_URL", "http://elsewhere:1/v1/")
    with Client() as client:
        assert client.base_url == "http://elsewhere:1"


def test_an_adapter_is_sent_without_pickles(server: ScriptedServer, client: Client, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no adapter"):
        client.models.import_adapter(tmp_path)
    for name in ("adapter_config.json", "adapter_model.safetensors", "optimizer.pt"):
        (tmp_path / name).write_text(f"content of {name}", encoding="utf-8")
    server.on("POST /v1/models/import", Answer(body=json.dumps({"id": "model_1", "created": 1})))
    assert client.models.import_adapter(tmp_path).id == "model_1"
    assert b"content of adapter_model.safetensors" in server.asked[0].body
    assert b"optimizer" not in server.asked[0].body


def test_chat_is_followed_with_sources_and_tokens_and_a_cut_stream_is_told(
    server: ScriptedServer, client: Client
) -> None:
    first = {"choices": [{"delta": {"content": "a"}}], "sources": [{"number": 1, "title": "t"}]}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    last = {"choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}], "usage": usage}
    whole = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in (first, last))
    stream = {"content-type": "text/event-stream"}
    server.on(
        "POST /v1/chat/completions",
        Answer(body=whole + "data: [DONE]\n\n", headers=stream),
        Answer(body=whole, headers=stream),
    )
    pieces = list(client.chat.follow("rag:docs@gemma-3-270m", "hi"))
    assert [piece.text for piece in pieces] == ["a", "b"]
    assert pieces[0].sources == [{"number": 1, "title": "t"}]
    assert pieces[1].usage is not None
    assert (pieces[1].usage.completion_tokens, pieces[1].finish_reason) == (2, "stop")
    with pytest.raises(ConnectionFailed, match="ended in its middle"):
        list(client.chat.follow("rag:docs@gemma-3-270m", "hi"))
