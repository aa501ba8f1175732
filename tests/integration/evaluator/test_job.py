"""The evaluator as a process: a job through the real queue, its API, and grading over HTTP. Only the gateway is a fake."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.common.db.engine import Database
from libs.common.db.tables import FileRow, JobRow
from libs.common.files import file_path
from libs.common.ids import new_id
from libs.common.jobs import transitions
from libs.common.jobs.keeper import Keeper
from libs.common.jobs.queue import make_celery, ring
from model_training.contracts.base import Page
from model_training.contracts.evaluations import (
    CallCheck,
    Evaluation,
    EvaluationItem,
    GradeReply,
    ItemResult,
    TextCheck,
)
from model_training.contracts.evaluations_gate import GateReply
from model_training.contracts.jobs import FINAL_STATES, JobKind, JobState
from model_training.datasets.rows import TrainingRow
from services.evaluator import repository
from tests.conftest import ROOT, Stores, free_ports


class FakeGateway:
    """Answers chats from a table by the last message; says 503 once, refuses one question, and records what it was asked."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.asked: list[dict[str, Any]] = []
        self._answers = answers
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                fake.asked.append({"path": self.path, "token": self.headers["authorization"], **body})
                status, reply = fake._reply(body)
                data = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                if status == 503:
                    self.send_header("retry-after", "0.1")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _reply(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if len(self.asked) == 1:
            return 503, {"detail": "loading"}
        question = body["messages"][-1]["content"]
        if "too long" in question:
            return 400, {
                "detail": "the prompt is longer than the context",
                "code": "too_long",
                "blame": "user",
            }
        if body["model"] == "gemma-3-4b":
            return 404, {
                "detail": "There is no model here.",
                "code": "not_found",
                "blame": "user",
                "hint": "mt models list",
            }
        known = [text for text in self._answers if text.lower() in question.lower().replace("\u00a0", " ")]
        message = {"role": "assistant", "content": self._answers[known[0]] if known else "no idea"}
        usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
        sources = [{"id": "chunk-1"}] if body["model"].startswith("rag:") else None
        return 200, {
            "choices": [{"message": message}],
            "usage": usage,
            "sources": sources,
            "prompt": f"<bos>{question}",
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def call_item(n: int, answer: str) -> tuple[EvaluationItem, str]:
    check = CallCheck(
        package="more_itertools",
        imports=["from more_itertools import *"],
        expected=f"[[{n}]]",
        must_call="more_itertools.chunked",
    )
    item = EvaluationItem(
        id=f"call-{n}",
        suite="code_generation",
        form="write_call",
        question=f"Chunk {n}.",
        answer=f"list(chunked([{n}], 1))",
        group="more_itertools.chunked",
        check=check,
    )
    return item, answer.format(n=n)


def text_item(n: int, question: str, answer: str) -> tuple[EvaluationItem, str]:
    item = EvaluationItem(
        id=f"text-{n}",
        suite="qa_accuracy",
        form="which_function",
        question=question,
        answer="windowed",
        group="more_itertools.windowed",
        check=TextCheck(metric="exact"),
    )
    return item, answer


CASES = [
    call_item(1, "list(chunked([{n}], 1))\n\nQuestion: more"),
    call_item(2, "[[{n}]]"),
    call_item(3, "list(chunked([0], 1))"),
    call_item(4, "Answer: `list(chunked([{n}], 1))`"),
    text_item(1, "Which function slides?", "Windowed."),
    text_item(2, "Which function chunks?", "chunked \x00 \ud800"),
    text_item(3, "What is too long?", ""),
]
ITEMS = [item for item, _ in CASES]
EXAMPLES = [
    TrainingRow(
        kind="code",
        form="write_call",
        question=f"Use {name}.",
        answer=f"{name}([])",
        function=f"more_itertools.{name}",
    )
    for name in ("first", "last", "chunked", "only", "flatten", "take")
]


@pytest.fixture(scope="module")
def gateway() -> Iterator[FakeGateway]:
    fake = FakeGateway({item.question: answer for item, answer in CASES})
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def evaluator(stores: Stores, database: Database, gateway: FakeGateway) -> Iterator[httpx.Client]:
    keeper = Keeper(database, partial(ring, make_celery(stores.settings.broker_url)), sweep_every_s=0.5)
    keeper.start()
    url = f"http://127.0.0.1:{free_ports(1)}"
    process = subprocess.Popen(
        [sys.executable, "-m", "services.evaluator.main"],
        cwd=ROOT,
        env={
            **os.environ,
            **stores.environment,
            "MT_EVALUATOR_URL": url,
            "MT_GATEWAY_URL": gateway.url,
            "MT_RESPONSE_CACHE": "false",  # tests count what is asked
        },
    )
    token = stores.settings.internal_token.get_secret_value()
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        try:
            wait(lambda: client.get("/readyz").status_code == 200)
            yield client
        finally:
            process.terminate()
            process.wait(timeout=60)
            keeper.stop()


def wait(condition: Any, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)


def store_file(stores: Stores, database: Database, purpose: str, rows: list[Any]) -> str:
    data = "".join(row.model_dump_json() + "\n" for row in rows).encode()
    sha256 = hashlib.sha256(data).hexdigest()
    path: Path = file_path(stores.settings.home, sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    with database.session() as session:
        row = FileRow(
            id=new_id("file"),
            project_id="proj_default",
            filename=f"{purpose}.jsonl",
            purpose=purpose,
            bytes=len(data),
            sha256=sha256,
            report={},
        )
        session.add(row)
        return row.id


def submit(database: Database, done: list[ItemResult] = [], **spec: Any) -> str:  # noqa: B006 (never changed)
    with database.session() as session:
        job = transitions.create(
            session, JobKind.EVALUATE, "proj_default", {"seed": 0, "metadata": {}, **spec}
        )
        session.flush()
        for position, result in enumerate(done):
            repository.save_item(session, job.id, position, result)
        return job.id


def finished(database: Database, job_id: str) -> JobRow:
    def row() -> JobRow:
        with database.session() as session:
            return session.get_one(JobRow, job_id)

    wait(lambda: JobState(row().state) in FINAL_STATES)
    return row()


@pytest.fixture(scope="module")
def files(stores: Stores, database: Database) -> dict[str, str]:
    return {
        "items": store_file(stores, database, "evaluation", ITEMS),
        "examples": store_file(stores, database, "fine-tune", EXAMPLES),
    }


def suites(files: dict[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "file": files["items"]} for name in ("code_generation", "qa_accuracy")]


@pytest.fixture(scope="module")
def evaluation(
    evaluator: httpx.Client, database: Database, files: dict[str, str]
) -> tuple[JobRow, Evaluation, list[ItemResult]]:
    """One evaluation of a base behind an index, run to its end."""
    job_id = submit(
        database,
        model="rag:docs@gemma-3-270m",
        suites=suites(files),
        prompt={"examples_file": files["examples"], "max_tokens": 48},
    )
    row = finished(database, job_id)
    reply = Evaluation.model_validate(evaluator.get(f"/v1/evaluations/{job_id}").json())
    page = Page[ItemResult].model_validate(evaluator.get(f"/v1/evaluations/{job_id}/items").json())
    return row, reply, page.data


def test_every_item_has_its_status(evaluation: tuple[JobRow, Evaluation, list[ItemResult]]) -> None:
    row, reply, items = evaluation
    assert row.state == "succeeded", row.error
    assert reply.state == JobState.SUCCEEDED
    assert [item.item_id for item in items] == [item.id for item in ITEMS]
    statuses = ["passed", "not_called", "wrong", "passed", "passed", "wrong", "error"]
    assert [item.status for item in items] == statuses, [item.reason for item in items]
    assert items[0].extracted == "list(chunked([1], 1))"
    assert items[0].prompt == "<bos>Chunk 1."
    assert items[0].sources == [{"id": "chunk-1"}]
    assert (items[0].prompt_tokens, items[0].completion_tokens) == (20, 5)
    assert items[0].latency_s > 0
    assert "longer than the context" in items[6].reason


def test_the_summary_adds_up(evaluation: tuple[JobRow, Evaluation, list[ItemResult]]) -> None:
    row, reply, _ = evaluation
    code, qa = reply.suites
    assert (code.suite, code.n, code.correct, code.pass_rate) == ("code_generation", 4, 2, 0.5)
    assert code.ci_low < 0.5 < code.ci_high
    assert code.statuses == {"passed": 2, "not_called": 1, "wrong": 1}
    assert (qa.n, qa.correct) == (3, 1)
    assert qa.scores["exact_match"] == pytest.approx(1 / 3)
    assert reply.isolation
    assert row.result is not None
    assert (row.result["n"], row.result["prompt_tokens"]) == (7, 120)
    assert reply.progress.fraction == 1.0
    assert reply.prompt_description is not None
    assert "user: Use " in reply.prompt_description


def test_a_base_is_shown_examples_of_other_functions(
    evaluation: tuple[JobRow, Evaluation, list[ItemResult]], gateway: FakeGateway, stores: Stores
) -> None:
    assert evaluation
    asked = next(one for one in gateway.asked if one["messages"][-1]["content"] == "Chunk 1.")
    assert asked["model"] == "rag:docs@gemma-3-270m"
    assert asked["temperature"] == 0
    assert asked["max_tokens"] == 48
    assert asked["token"] == f"Bearer {stores.settings.internal_token.get_secret_value()}"
    turns = asked["messages"][:-1]
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 4
    assert not any("chunked" in turn["content"] for turn in turns)


def test_pages_and_filters(
    evaluation: tuple[JobRow, Evaluation, list[ItemResult]], evaluator: httpx.Client
) -> None:
    url = f"/v1/evaluations/{evaluation[0].id}/items"
    seen: list[str] = []
    after: str | None = None
    while True:
        params = {"limit": 3, **({"after": after} if after else {})}
        page = Page[ItemResult].model_validate(evaluator.get(url, params=params).json())
        seen += [item.item_id for item in page.data]
        after = page.last_id
        if not page.has_more:
            break
    assert seen == [item.id for item in ITEMS]
    only = Page[ItemResult].model_validate(
        evaluator.get(url, params={"suite": "code_generation", "status": "passed"}).json()
    )
    assert [item.item_id for item in only.data] == ["call-1", "call-4"]


def test_what_is_done_is_not_asked_again(
    evaluation: tuple[JobRow, Evaluation, list[ItemResult]],
    database: Database,
    gateway: FakeGateway,
    files: dict[str, str],
) -> None:
    before = len(gateway.asked)
    job_id = submit(database, evaluation[2][:2], model="gemma-3-270m-it", suites=suites(files)[:1], prompt={})
    row = finished(database, job_id)
    assert row.state == "succeeded", row.error
    asked = gateway.asked[before:]
    assert sorted(one["messages"][-1]["content"] for one in asked) == ["Chunk 3.", "Chunk 4."]
    assert all(len(one["messages"]) == 1 for one in asked), "an instructed model is shown no examples"
    assert row.result is not None
    assert (row.result["n"], row.result["correct"]) == (4, 2)


@pytest.mark.parametrize(
    ("spec", "code", "words"),
    [
        ({"model": "gemma-3-4b-it", "suites": [{"name": "no_such_suite"}]}, "invalid_input", "needs a file"),
        ({"model": "gemma-3-4b-it", "suites": [{"name": "qa_accuracy"}]}, "invalid_input", "needs a file"),
        ({"model": "gemma-3-4b-it", "suites": [{"name": "x", "file": "file_none"}]}, "not_found", "no file"),
        ({"model": "model_none", "suites": [{"name": "humaneval"}]}, "not_found", "no model"),
        (
            {"model": "gemma-3-270m", "suites": [{"name": "humaneval"}], "prompt": {"shots": 3}},
            "invalid_input",
            "no file",
        ),
    ],
)
def test_a_job_that_cannot_run_says_why(
    evaluator: httpx.Client, database: Database, spec: dict[str, Any], code: str, words: str
) -> None:
    assert evaluator
    row = finished(database, submit(database, **{"prompt": {}, **spec}))
    assert row.state == "failed"
    assert row.error is not None
    assert row.error["code"] == code, row.error
    assert words in row.error["message"]
    assert row.error["hint"]
    assert row.error["blame"] == "user"


def test_a_missing_model_ends_the_job(
    evaluator: httpx.Client, database: Database, files: dict[str, str]
) -> None:
    assert evaluator
    row = finished(database, submit(database, model="gemma-3-4b", suites=suites(files), prompt={}))
    assert row.state == "failed"
    assert row.error is not None
    assert (row.error["code"], row.error["hint"]) == ("not_found", "mt models list")


def test_grading_over_http(evaluator: httpx.Client) -> None:
    body = {"items": [{"item": item.model_dump(mode="json"), "output": item.answer} for item in ITEMS]}
    reply = GradeReply.model_validate(evaluator.post("/v1/grade", json=body).json())
    assert [grade.correct for grade in reply.data] == [True] * len(ITEMS)
    assert reply.isolation
    body["items"][0]["item"]["check"]["expected"] = "open('x')"
    refused = evaluator.post("/v1/grade", json=body)
    assert refused.status_code == 400
    assert "call-1" in refused.json()["detail"]


def test_a_gate_over_http(
    evaluation: tuple[JobRow, Evaluation, list[ItemResult]], evaluator: httpx.Client, database: Database
) -> None:
    id = evaluation[0].id
    itself = evaluator.post(f"/v1/evaluations/{id}/gate", json={"baseline": id}).json()
    assert (itself["passed"], [suite["n"] for suite in itself["suites"]]) == (True, [4, 3])
    better = [
        {**item.model_dump(include={"item_id", "suite", "group"}), "correct": True} for item in evaluation[2]
    ]
    reply = GateReply.model_validate(
        evaluator.post(f"/v1/evaluations/{id}/gate", json={"items": better}).json()
    )
    assert reply.suites[0].losses == ["call-2", "call-3"]
    assert reply.verdict == "cannot_tell", "seven items show nothing"
    queued = submit(database, model="gemma-3-270m", suites=[{"name": "none"}], prompt={})
    refused = evaluator.post(f"/v1/evaluations/{id}/gate", json={"baseline": queued})
    assert refused.status_code == 400
    finished(database, queued)


def test_robustness_asks_in_every_form(
    evaluator: httpx.Client, database: Database, gateway: FakeGateway, files: dict[str, str]
) -> None:
    """The fake answers by the last line that it knows, so whatever is put around a question does no harm."""
    suite = {"name": "robustness", "file": files["items"], "of": "qa_accuracy", "limit": 1}
    row = finished(database, submit(database, model="gemma-3-270m-it", suites=[suite], prompt={}))
    assert row.state == "succeeded", row.error
    reply = Evaluation.model_validate(evaluator.get(f"/v1/evaluations/{row.id}").json())
    (summary,) = reply.suites
    assert summary.n == 11
    assert summary.scores["kept.long_context"] == 1.0
    assert summary.scores["agreement.injection"] == 1.0
    assert "kept.typos" in summary.scores


def test_several_samples_have_their_own_seeds_and_greedy_ones_are_refused(
    evaluator: httpx.Client, database: Database, gateway: FakeGateway, files: dict[str, str]
) -> None:
    before = len(gateway.asked)
    spec = {
        "model": "gemma-3-270m-it",
        "suites": [{"name": "qa_accuracy", "file": files["items"], "limit": 1}],
    }
    row = finished(database, submit(database, samples=3, prompt={"temperature": 0.7}, **spec))
    assert row.state == "succeeded", row.error
    asked = gateway.asked[before:]
    assert sorted(one["seed"] for one in asked) == [0, 1, 2]
    assert {one["temperature"] for one in asked} == {0.7}
    reply = Evaluation.model_validate(evaluator.get(f"/v1/evaluations/{row.id}").json())
    assert reply.suites[0].scores["pass@3"] == 1.0
    refused = finished(database, submit(database, samples=3, prompt={}, **spec))
    assert refused.error is not None
    assert "temperature" in refused.error["message"]


def test_the_door_is_closed_to_others(evaluator: httpx.Client) -> None:
    reply = evaluator.post("/v1/grade", json={"items": []}, headers={"Authorization": "Bearer wrong"})
    assert reply.status_code == 401
    assert evaluator.get("/v1/evaluations/eval_none").status_code == 404
