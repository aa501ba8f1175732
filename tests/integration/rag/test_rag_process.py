"""The retrieval service as a process: real PostgreSQL, Valkey, Celery worker, child, MiniLM and Qdrant engine.

Only the served model is a stand-in, a small HTTP service that counts words and repeats the prompt.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import psutil
import pytest

from libs.common.db.engine import Database
from libs.common.db.tables import FileRow, IndexRow, JobRow, ProjectRow
from libs.common.files import file_path
from libs.common.ids import new_id
from libs.common.jobs import transitions
from libs.common.jobs.keeper import Keeper
from libs.common.jobs.queue import make_celery, ring
from libs.common.service import BackgroundServer, create_app
from model_training.contracts.indexes import Index, IndexCreate, QueryReply
from model_training.contracts.jobs import FINAL_STATES, JobKind, JobState
from tests.conftest import ROOT, Stores, free_ports

FUNCTIONS = {
    "chunked": "Break an iterable into lists of a given length.",
    "flatten": "Remove one level of nesting from a list of lists.",
    "windowed": "Return a sliding window over an iterable.",
    "frequencies": "Count how often each value occurs.",
    "merge": "Merge dictionaries; later ones win.",
    "slugify": "Turn text into words joined by underscores, fit for a URL.",
}


@pytest.fixture(scope="module")
def inference() -> Iterator[str]:
    """A served model that counts words as tokens and repeats the last message."""
    app = create_app("inference")

    @app.post("/v1/tokenize")
    def tokenize(body: dict[str, Any]) -> dict[str, Any]:
        text = body.get("text") or "\n".join(message["content"] for message in body["messages"])
        return {"count": len(text.split()), "text": text}

    @app.post("/v1/chat/completions")
    def chat(body: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": body["messages"][-1]["content"]}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return {"id": "c", "created": 1, "model": body["model"], "choices": choices, "usage": usage}

    url = f"http://127.0.0.1:{free_ports(1)}"
    server = BackgroundServer(app, url)
    server.start()
    yield url
    server.stop()


class RagProcess:
    """The service and how tests reach it."""

    def __init__(self, stores: Stores, inference_url: str) -> None:
        self.url = f"http://127.0.0.1:{free_ports(1)}"
        token = stores.settings.internal_token.get_secret_value()
        self.http = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=120)
        environment = {"MT_RAG_URL": self.url, "MT_INFERENCE_URL": inference_url}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.rag.main"],
            cwd=ROOT,
            env={**os.environ, **stores.environment, **environment},
        )

    def wait_ready(self) -> float:
        """Wait until it is ready; seconds that took."""
        started = time.monotonic()
        wait_until(lambda: self.http.get("/readyz").status_code == 200, 240)
        return time.monotonic() - started

    def stop(self) -> None:
        """End it as the supervisor does."""
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.http.close()


def wait_until(condition: Callable[[], bool], timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise AssertionError("waited in vain")


@pytest.fixture(scope="module")
def keeper(stores: Stores, database: Database) -> Iterator[Keeper]:
    keeper = Keeper(database, partial(ring, make_celery(stores.settings.broker_url)), sweep_every_s=0.5)
    keeper.start()
    yield keeper
    keeper.stop()


@pytest.fixture(scope="module")
def rag(stores: Stores, inference: str, keeper: Keeper) -> Iterator[RagProcess]:
    process = RagProcess(stores, inference)
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop()


def upload(stores: Stores, database: Database, content: bytes, purpose: str = "chunks") -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    path = file_path(stores.home, sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    row = FileRow(
        id=new_id("file"),
        project_id="proj_default",
        filename="chunks.jsonl",
        purpose=purpose,
        bytes=len(content),
        sha256=sha256,
        report={},
    )
    with database.session() as session:
        session.add(row)
    return row.id


def passages() -> bytes:
    rows = [
        {"id": name, "title": f"lib.{name}", "text": text, "functions": [f"lib.{name}"]}
        for name, text in FUNCTIONS.items()
    ]
    return "\n".join(json.dumps(row) for row in rows).encode()


def build(database: Database, **spec: Any) -> JobRow:
    order = IndexCreate.model_validate(spec).model_dump(mode="json")
    with database.session() as session:
        job_id = transitions.create(session, JobKind.INDEX, "proj_default", order, max_attempts=3).id

    def row() -> JobRow:
        with database.session() as session:
            return session.get_one(JobRow, job_id)

    wait_until(lambda: JobState(row().state) in FINAL_STATES, 240)
    return row()


@pytest.fixture(scope="module")
def index(stores: Stores, database: Database, rag: RagProcess) -> JobRow:
    """A built index called `docs`."""
    job = build(database, name="docs", files=[upload(stores, database, passages())])
    assert job.state == JobState.SUCCEEDED, job.error
    return job


def test_an_index_is_built_and_found_by_name_and_id(
    stores: Stores, database: Database, rag: RagProcess, index: JobRow
) -> None:
    assert index.result is not None
    assert (index.result["chunks"], index.result["dimension"]) == (6, 384)
    assert index.progress["step"] == index.progress["total"] == 6
    stamp = index.result["stamp"]
    assert (stamp["embedder"]["name"], len(stamp["embedder"]["revision"])) == ("all-minilm-l6-v2", 64)
    for reference in ("docs", index.id):
        described = Index.model_validate(rag.http.get(f"/v1/indexes/{reference}").json())
        assert (described.id, described.chunks, described.dimension) == (index.id, 6, 384)
    for mode in ("hybrid", "dense", "bm25"):
        reply = rag.http.post(
            "/v1/indexes/docs/query", json={"query": "count values", "mode": mode, "limit": 2}
        )
        hits = QueryReply.model_validate(reply.json()).hits
        assert hits[0].chunk.id == "frequencies"
        assert hits[0].rank == 1
    assert not list((stores.home / "jobs" / index.id).glob("*"))  # handed over, not kept twice


def test_an_answer_names_its_sources(rag: RagProcess, index: JobRow) -> None:
    body = {
        "model": "rag:docs@m",
        "messages": [{"role": "user", "content": "How do I flatten nested lists?"}],
        "return_prompt": True,
        "retrieval": {"passages": 2},
    }
    reply = rag.http.post("/v1/chat/completions", json=body).json()
    assert reply["model"] == "rag:docs@m"
    assert reply["sources"][0]["id"] == "flatten"
    assert reply["packing"]["packed"][0] == "flatten"
    assert len(reply["packing"]["packed"]) == 2
    assert len(reply["packing"]["dropped"]) == 4
    assert FUNCTIONS["flatten"] in reply["prompt"]
    assert reply["choices"][0]["message"]["content"] == reply["prompt"]


def test_the_newest_index_of_a_name_answers_and_deleting_it_frees(
    stores: Stores, database: Database, rag: RagProcess, index: JobRow
) -> None:
    newer = _built_again_with_another_embedder(stores, database, index)
    directory = stores.home / "indexes" / newer

    def ask(mode: str) -> httpx.Response:
        return rag.http.post("/v1/indexes/docs/query", json={"query": "count values", "mode": mode})

    assert ask("bm25").json()["index"] == newer
    refused = ask("hybrid")
    assert refused.status_code == 409
    assert "Build the index again" in refused.json()["hint"]

    deleted = rag.http.delete(f"/v1/indexes/{newer}")
    assert deleted.json() == {"id": newer, "object": "index", "deleted": True}
    assert not directory.exists()
    assert ask("hybrid").json()["index"] == index.id
    assert rag.http.get(f"/v1/indexes/{newer}").status_code == 404
    listed = [row["id"] for row in rag.http.get("/v1/indexes").json()["data"]]
    assert index.id in listed
    assert newer not in listed


def _built_again_with_another_embedder(stores: Stores, database: Database, index: JobRow) -> str:
    """A later build of the same name, as a service with other weights would have left it."""
    job_id = new_id("idx")
    directory = stores.home / "indexes" / job_id
    shutil.copytree(stores.home / "indexes" / index.id, directory)
    stamp = json.loads((directory / "stamp.json").read_text(encoding="utf-8"))
    stamp["embedder"]["revision"] = "0" * 64
    (directory / "stamp.json").write_text(json.dumps(stamp), encoding="utf-8")
    job = JobRow(id=job_id, project_id="proj_default", kind="index", state="succeeded", spec=index.spec)
    with database.session() as session:
        session.add(job)
        session.flush()
        session.add(IndexRow(id=job_id, project_id="proj_default", name="docs", chunks=6, stamp=stamp))
    return job_id


def test_other_projects_do_not_see_it(database: Database, rag: RagProcess, index: JobRow) -> None:
    with database.session() as session:
        session.merge(ProjectRow(id="proj_other", name="other"))
    other = {"x-mt-project": "proj_other"}
    own = {"x-mt-project": "proj_default"}
    assert rag.http.get(f"/v1/indexes/{index.id}", headers=other).status_code == 404
    assert rag.http.post("/v1/indexes/docs/query", json={"query": "x"}, headers=other).status_code == 404
    assert rag.http.delete(f"/v1/indexes/{index.id}", headers=other).status_code == 404
    assert rag.http.get("/v1/indexes", headers=other).json()["data"] == []
    assert rag.http.post("/v1/indexes/docs/query", json={"query": "x"}, headers=own).status_code == 200


def test_broken_rows_fail_the_job_with_their_numbers(
    stores: Stores, database: Database, rag: RagProcess
) -> None:
    broken = passages() + b'\n{"id": "x", "title": "t"}\nnot json\n'
    job = build(database, name="broken", files=[upload(stores, database, broken)])
    assert job.state == JobState.FAILED
    assert job.error is not None
    assert (job.error["code"], job.error["blame"]) == ("invalid_chunks", "user")
    assert [(row["row"], row.get("field")) for row in job.error["rows"]] == [(7, "text"), (8, None)]
    assert not (stores.home / "indexes" / job.id).exists()
    reply = rag.http.post(f"/v1/indexes/{job.id}/query", json={"query": "x"})
    assert reply.status_code == 404
    assert "failed" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("purpose", "embedder", "words"),
    [
        ("fine-tune", "all-minilm-l6-v2", "purpose"),
        ("chunks", "nomic", "nomic"),
        (None, "all-minilm-l6-v2", "no file"),
    ],
)
def test_a_wrong_order_fails_with_its_reason(
    stores: Stores, database: Database, rag: RagProcess, purpose: str | None, embedder: str, words: str
) -> None:
    file_id = "file_gone" if purpose is None else upload(stores, database, passages(), purpose)
    job = build(database, name="wrong", files=[file_id], embedder=embedder)
    assert job.state == JobState.FAILED
    assert job.error is not None
    assert job.error["blame"] == "user"
    assert words in job.error["message"]


def test_bad_requests_are_answered_clearly(rag: RagProcess, index: JobRow) -> None:
    def refused(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        reply = rag.http.post(path, json=body)
        return reply.status_code, reply.json()

    status, problem = refused("/v1/indexes/dogs/query", {"query": "x"})
    assert status == 404
    assert "docs" in problem["hint"]
    assert refused("/v1/indexes/docs/query", {"query": "  "})[0] == 400
    assert refused("/v1/indexes/docs/query", {"query": ""})[0] == 422
    assert refused("/v1/indexes/docs/query", {"query": "x" * 1_000_000})[0] == 422
    ask = {"model": "rag:docs@m", "messages": [{"role": "user", "content": "x" * 1_000_000}]}
    assert refused("/v1/chat/completions", ask)[0] == 413
    status, problem = refused(
        "/v1/chat/completions", ask | {"model": "rag:dogs@m", "messages": [{"role": "user", "content": "x"}]}
    )
    assert (status, problem["error"]["code"]) == (404, "not_found")
    assert httpx.post(f"{rag.url}/v1/indexes/docs/query", json={"query": "x"}).status_code == 401


def test_it_stays_small_and_counts_what_it_does(rag: RagProcess, index: JobRow) -> None:
    memory = psutil.Process(rag.process.pid).memory_full_info()
    # Its own alone: code of libraries mapped from disk is shared with every process that has them.
    assert memory.uss < 1.2e9
    metrics = httpx.get(f"{rag.url}/metrics").text
    assert 'mt_rag_search_seconds_count{mode="hybrid"}' in metrics
    assert "mt_rag_packed_passages_count" in metrics


def _corpus(functions: dict[str, str]) -> bytes:
    rows = [
        {
            "id": name,
            "title": f"lib.{name}",
            "text": text,
            "functions": [f"lib.{name}"],
            "source": {"path": "a.md"},
        }
        for name, text in functions.items()
    ]
    return "\n".join(json.dumps(row) for row in rows).encode()


def _query(rag: RagProcess, index: str, query: str, **more: Any) -> list[str]:
    reply = rag.http.post(f"/v1/indexes/{index}/query", json={"query": query, "limit": 10, **more})
    assert reply.status_code == 200, reply.text
    return [hit["chunk"]["id"] for hit in reply.json()["hits"]]


def test_a_next_version_embeds_only_what_changed_and_the_name_leads_to_it(
    stores: Stores, database: Database, rag: RagProcess, index: JobRow
) -> None:
    more = {"zip": "Pair items of many lists.", "unzip": "Take pairs apart.", "merge": FUNCTIONS["merge"]}
    content = _corpus(more)
    made = build(
        database, name="inc", base=index.id, remove=["chunked"], files=[upload(stores, database, content)]
    )
    assert made.result is not None, made.error
    assert (made.result["embedded"], made.result["reused"], made.result["removed"]) == (2, 5, 1)
    assert made.result["stamp"]["before"] == index.id
    assert set(_query(rag, "inc", "lists", mode="dense")) == {*FUNCTIONS, *more} - {"chunked"}
    assert set(_query(rag, index.id, "lists", mode="dense")) == set(FUNCTIONS)
    assert not list((stores.home / "jobs" / made.id).glob("*"))
    mixed = build(
        database, name="inc", base="inc", chunker="another", files=[upload(stores, database, content)]
    )
    assert mixed.error is not None
    assert "were cut by" in mixed.error["message"]
    missing = build(database, name="inc", base="nothing", remove=["a"], files=[])
    assert missing.error is not None
    assert missing.error["param"] == "base"


QUESTIONS = [
    {"id": f"q{number}", "question": question, "functions": [f"lib.{name}"], "kind": kind}
    for number, (question, name, kind) in enumerate(
        [
            ("pieces of equal length", "chunked", "how"),
            ("give me chunked", "chunked", "name"),
            ("remove nesting", "flatten", "how"),
            ("what is flatten", "flatten", "name"),
            ("sliding window", "windowed", "how"),
            ("windowed please", "windowed", "name"),
            ("how often does it occur", "frequencies", "how"),
            ("frequencies of what", "frequencies", "name"),
            ("combine two dicts", "merge", "how"),
            ("merge", "merge", "name"),
            ("text for a URL", "slugify", "how"),
            ("slugify it", "slugify", "name"),
        ]
    )
]


def test_searches_are_measured_tuned_and_the_outcome_stays_with_the_index(
    rag: RagProcess, index: JobRow
) -> None:
    def post(what: str, **body: Any) -> httpx.Response:
        return rag.http.post(f"/v1/indexes/{index.id}/{what}", json=body)

    report = post("evaluate", questions=QUESTIONS, k=3, mode="hybrid").json()
    overall = report["overall"]
    assert overall["questions"] == 12
    assert overall["recall"]["3"]["estimate"] >= 0.8
    assert (
        overall["recall"]["1"]["low"] <= overall["recall"]["1"]["estimate"] <= overall["recall"]["1"]["high"]
    )
    assert {kind: row["questions"] for kind, row in report["by_kind"].items()} == {"how": 6, "name": 6}

    unknown = {"id": "x", "question": "x", "functions": ["lib.nothing"]}
    assert post("evaluate", questions=[*QUESTIONS, unknown]).json()["unlabelled"] == ["x"]
    assert post("evaluate", questions=[unknown]).status_code == 400
    few = post("tune", questions=QUESTIONS)
    assert (few.status_code, "too few" in few.json()["detail"]) == (400, True)

    twice = QUESTIONS + [{**question, "id": question["id"] + "b"} for question in QUESTIONS]
    tuned = post("tune", questions=twice, k=3).json()
    assert tuned["stored"]
    assert tuned["tried"] >= 15
    described = rag.http.get(f"/v1/indexes/{index.id}").json()
    assert described["search"] == tuned["chosen"]
    used = post("evaluate", questions=QUESTIONS, k=3).json()["options"]
    assert used == tuned["chosen"]
    forced = post("evaluate", questions=QUESTIONS, k=3, mode="bm25").json()["options"]
    assert forced["mode"] == "bm25"


def test_a_snapshot_puts_an_index_back(stores: Stores, rag: RagProcess, index: JobRow) -> None:
    taken = rag.http.post(f"/v1/indexes/{index.id}/snapshot").json()
    assert (taken["chunks"], len(taken["sha256"])) == (6, 64)
    path = stores.home / "snapshots" / taken["name"]
    assert path.stat().st_size == taken["bytes"]
    before = _query(rag, index.id, "count values", mode="dense")
    restored = rag.http.post(f"/v1/indexes/{index.id}/restore", json={"snapshot": taken["name"]})
    assert restored.status_code == 200, restored.text
    assert _query(rag, index.id, "count values", mode="dense") == before
    for name, status in (("../x", 400), (f"{index.id}-gone.tar", 404)):
        assert rag.http.post(f"/v1/indexes/{index.id}/restore", json={"snapshot": name}).status_code == status
    path.write_bytes(b"no tar")
    broken = rag.http.post(f"/v1/indexes/{index.id}/restore", json={"snapshot": taken["name"]})
    assert broken.status_code == 400
    assert _query(rag, index.id, "count values", mode="dense") == before


def test_filters_and_options_are_heeded_and_wrong_ones_named(rag: RagProcess, index: JobRow) -> None:
    assert _query(rag, index.id, "values", filter={"functions": ["lib.merge", "lib.chunked"]}) != []
    assert set(_query(rag, index.id, "values", filter={"id": "merge"})) == {"merge"}
    assert _query(rag, index.id, "values", filter={"package": "nothing"}) == []
    for body, status, word in (
        ({"filter": {"colour": "red"}}, 400, "colour"),
        ({"rerank": "no-such-model"}, 400, "no-such-model"),
        ({"rerank": "bge-reranker-base"}, 503, "bge-reranker-base"),
        ({"diversity": 2}, 422, "diversity"),
        ({"filter": {"id": []}}, 422, "filter"),
        ({"tempo": 1}, 422, "tempo"),
    ):
        reply = rag.http.post(f"/v1/indexes/{index.id}/query", json={"query": "values", **body})
        assert reply.status_code == status, reply.text
        assert word in reply.text
    assert len(_query(rag, index.id, "values of lists", diversity=0.5)) == 6


def test_citations_are_asked_for_and_checked(rag: RagProcess, index: JobRow) -> None:
    """The stand-in of the served model repeats the prompt: its passages, their numbers, and the question's marks."""
    ask = {
        "model": f"rag:{index.id}@m",
        "messages": [{"role": "user", "content": "flatten nested lists? It needs 7 lists [9]."}],
        "retrieval": {"passages": 2, "citations": True, "mode": "dense"},
    }
    reply = rag.http.post("/v1/chat/completions", json=ask).json()
    citations = reply["citations"]
    assert citations["rejected"] == [9]
    assert "[9]" not in reply["choices"][0]["message"]["content"]
    assert 0 <= citations["citation_precision"] < 1
    assert {cited["id"] for cited in citations["cited"]} <= set(reply["packing"]["packed"])

    nothing = ask | {"retrieval": {"citations": True, "filter": {"package": "nothing"}}}
    refused = rag.http.post("/v1/chat/completions", json=nothing).json()
    assert refused["choices"][0]["message"]["content"] == "Not in the sources."
    assert refused["citations"]["in_sources"] is False
    assert refused["usage"]["completion_tokens"] == 0
