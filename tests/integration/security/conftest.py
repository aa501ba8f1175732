"""One gateway for all attacks, two projects in it, and what every refusal must look like."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.common.artifacts import ArtifactStore
from libs.common.db.engine import Database
from libs.common.db.tables import ArtifactRow, IndexRow, ModelRow
from libs.common.ids import new_id
from libs.common.jobs import transitions
from model_training.contracts.jobs import JobKind
from tests.conftest import Stores
from tests.integration.gateway.conftest import NEIGHBOURS, RunningGateway, running_gateway

CHUNK = b'{"id": "a", "title": "t", "text": "words"}\n'
SPECS: dict[JobKind, dict[str, Any]] = {
    JobKind.TRAIN: {"model": "gemma-3-270m", "training_file": "file_x", "config": {}, "asked": {}},
    JobKind.INDEX: {"name": "theirs", "files": [], "embedder": "all-minilm-l6-v2"},
    JobKind.EVALUATE: {"model": "gemma-3-270m", "suites": [], "prompt": {}},
    JobKind.COMPARE: {"arms": [], "suites": []},
    JobKind.PIPELINE: {"steps": [], "files": {}},
    JobKind.SWEEP: {"search": {}, "base": {}},
}


@dataclass(frozen=True)
class World:
    """A gateway with somebody else's things in it. `ids` names them by the parameter that an address has for them."""

    gateway: RunningGateway
    victim: str
    ids: dict[str, str]
    attacker: str
    """A key of another project that may do everything but `admin` and `observe`."""
    reader: str
    """A key of that project that may only `read`."""
    observer: str
    """A key of that project that may `read` and `observe`."""
    marks: list[str] = field(default_factory=list[str])
    """What no answer to the attacker may hold."""

    clients: dict[str, httpx.Client] = field(default_factory=dict[str, httpx.Client])

    def http(self, key: str | None = None) -> AbstractContextManager[httpx.Client]:
        """A client with a key, the attacker's by default. It is kept: making one takes longer than most attempts."""
        key = key or self.attacker
        if key not in self.clients:
            self.clients[key] = self.gateway.http(key)
        return nullcontext(self.clients[key])


@pytest.fixture(scope="session")
def door(stores: Stores, database: Database) -> Iterator[RunningGateway]:
    """The gateway that all attacks share; no other service stands behind it."""
    with running_gateway(stores) as running:
        yield running


@pytest.fixture(scope="session")
def world(door: RunningGateway, database: Database, stores: Stores) -> World:
    """Two projects: the victim's, with one thing of each kind, and the attacker's."""
    with door.http() as admin:
        victim, other = (_project(admin, name) for name in ("victim", "attacker"))
        owner = _key(admin, victim, ["read", "submit", "infer"])
        attacker = _key(admin, other, ["read", "submit", "infer"])
        reader = _key(admin, other, ["read"])
        observer = _key(admin, other, ["read", "observe"])
        with door.http(owner["key"]) as http:
            sent = http.post("/v1/files", files={"file": ("s.jsonl", CHUNK)}, data={"purpose": "chunks"})
        assert sent.status_code == 200, sent.text
    ids = {"file_id": sent.json()["id"], "key_id": owner["id"], "project_id": victim}
    ids |= _rows(database, victim, _adapter(stores))
    marks = [victim, owner["key"], *ids.values()]
    return World(door, owner["key"], ids, attacker["key"], reader["key"], observer["key"], marks)


def _adapter(stores: Stores) -> str:
    """An artifact on the disk."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "adapter_config.json").write_text('{"of": "the victim"}', encoding="utf-8")
        return ArtifactStore(stores.home / "artifacts").commit(Path(name))


def _rows(database: Database, project: str, artifact: str) -> dict[str, str]:
    """One job of each kind, an index and a model, as finished work leaves them."""
    with database.session() as session:
        jobs = {kind: transitions.create(session, kind, project, spec).id for kind, spec in SPECS.items()}
        session.merge(ArtifactRow(sha256=artifact, kind="adapter", bytes=1, job_id=None))
        session.flush()
        model = new_id("model")
        session.add_all([
            IndexRow(id=jobs[JobKind.INDEX], project_id=project, name="theirs", chunks=1, stamp={}),
            ModelRow(id=model, project_id=project, base="gemma-3-270m", artifact=artifact, state="pending"),
        ])  # fmt: skip
    return {
        "job_id": jobs[JobKind.TRAIN],
        "index_id": jobs[JobKind.INDEX],
        "evaluation": jobs[JobKind.EVALUATE],
        "comparison": jobs[JobKind.COMPARE],
        "pipeline_id": jobs[JobKind.PIPELINE],
        "sweep_id": jobs[JobKind.SWEEP],
        "model": model,
    }


def _project(admin: httpx.Client, name: str) -> str:
    made = admin.post("/v1/projects", json={"name": f"{name}-{time.time_ns()}"})
    assert made.status_code == 200, made.text
    return made.json()["id"]


def _key(admin: httpx.Client, project: str, scopes: list[str]) -> dict[str, Any]:
    made = admin.post("/v1/api_keys", json={"name": "test", "scopes": scopes, "project": project})
    assert made.status_code == 200, made.text
    return made.json()


@contextmanager
def standing_in_for(
    world: World,
    service: str,
    body: str,
    *,
    status: int = 200,
    seen: list[dict[str, str]] | None = None,
    **headers: str,
) -> Iterator[list[str]]:
    """Something that answers where the gateway expects a service, always the same; yields the paths that were asked for.
    The headers that it was sent go into `seen`, by lower-case names."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            asked.append(self.path)
            if seen is not None:
                seen.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    port = int(world.gateway.url.rpartition(":")[2]) + NEIGHBOURS.index(service)
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def assert_refused(answer: httpx.Response, *statuses: int) -> None:
    """A refusal is a problem with its code, tells nothing of the inside, and cannot be mistaken for a page."""
    assert answer.status_code in statuses, f"{answer.status_code}: {answer.text[:500]}"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    for inside in ("Traceback", 'File "/', "site-packages", "psycopg", "sqlalchemy"):
        assert inside not in answer.text
