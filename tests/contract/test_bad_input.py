"""Every field of every create operation, wrong in every way that its shape allows to name: the right 4xx with the field,
and nothing stored.

The fields are read from the API's own description, so a new field is covered the day it appears.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import text

from libs.common.db.engine import Database
from libs.common.db.tables import Base
from tests.contract.wrong_values import BIDI, SURROGATE, Field, fields_of, resolved, with_value, wrong_values
from tests.integration.gateway.conftest import RunningGateway

PATHS = ("../../etc/passwd", "/etc/passwd", "a/../b", "..\\..\\windows")
TABLES = [table.name for table in Base.metadata.sorted_tables if table.name != "api_keys"]


@dataclass(frozen=True)
class Create:
    """An operation that creates, with a body that it would take."""

    path: str
    schema: dict[str, Any]
    body: dict[str, Any]


@pytest.fixture(scope="module")
def creates(gateway: RunningGateway, document: dict[str, Any]) -> list[Create]:
    """Every operation that creates from JSON."""
    shapes = document["components"]["schemas"]
    with gateway.http() as http:
        ids = {purpose: _upload(http, purpose) for purpose in ROWS}
    found: list[Create] = []
    for path, methods in document["paths"].items():
        operation = methods.get("post", {})
        names = {parameter["name"] for parameter in operation.get("parameters", [])}
        media = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if media is None or "Idempotency-Key" not in names:
            continue
        body = media.get("example") or next(iter(media["examples"].values()))["value"]
        found.append(Create(path, resolved(media["schema"], shapes), _with_files(body, ids)))
    return found


ROWS = {
    "fine-tune": b'{"question": "What?", "answer": "That."}\n',
    "chunks": b'{"id": "a", "title": "t", "text": "words"}\n',
    "evaluation": b'{"id": "i", "suite": "qa", "form": "what", "question": "Q?", "answer": "A", "group": "g", '
    b'"check": {"type": "text"}}\n',
}


PURPOSES = {"files": "chunks", "chunks": "chunks", "file": "evaluation", "evaluation": "evaluation"}
"""What the files of a field are for; elsewhere they are training rows."""


def _upload(http: httpx.Client, purpose: str) -> str:
    answer = http.post("/v1/files", files={"file": ("f.jsonl", ROWS[purpose])}, data={"purpose": purpose})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def _with_files(value: Any, ids: Mapping[str, str], key: str = "") -> Any:
    """The example with files that exist."""
    match value:
        case dict():
            return {k: _with_files(v, ids, k) for k, v in value.items()}
        case list():
            return [_with_files(v, ids, key) for v in value]
        case str() if value.startswith("file_"):
            return ids[
                {"files": "chunks", "chunks": "chunks", "file": "evaluation", "evaluation": "evaluation"}.get(
                    key, "fine-tune"
                )
            ]
        case _:
            return value


def everything_stored(database: Database, home: Path) -> dict[str, Any]:
    """How many rows every table has, and which files there are."""
    with database.session() as session:
        rows = {table: session.scalar(text(f"select count(*) from {table}")) for table in TABLES}
    return {**rows, "files on disk": sorted(path.name for path in (home / "files").glob("*"))}


def post(http: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    return http.post(path, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"})


def test_every_field_of_every_create_refuses_what_is_wrong(
    gateway: RunningGateway,
    database: Database,
    stores_home: Path,
    document: dict[str, Any],
    creates: list[Create],
) -> None:
    shapes = document["components"]["schemas"]
    before = everything_stored(database, stores_home)
    faults: list[str] = []
    tried = 0
    with gateway.http() as http:
        for create in creates:
            for field in fields_of(create.schema, shapes):
                for value in wrong_values(field, shapes):
                    body = with_value(create.body, field.path, value, shapes, create.schema)
                    answer = post(http, create.path, body)
                    tried += 1
                    if complaint := _complaint(answer, field):
                        faults.append(f"{create.path} {field.name} = {str(value)[:40]!r}: {complaint}")
    assert not faults, "\n".join(faults[:40])
    assert tried > 500
    assert len(creates) >= 7
    assert everything_stored(database, stores_home) == before


def _complaint(answer: httpx.Response, field: Field) -> str | None:
    if answer.status_code not in (400, 422):
        return f"{answer.status_code} {answer.text[:300]}"
    problem = answer.json()
    named = f"{problem.get('param')} {problem['detail']}"
    return None if str(field.path[-1]) in named or str(field.path[0]) in named else f"names {named[:200]}"


def test_every_create_refuses_what_it_does_not_know(
    gateway: RunningGateway, database: Database, stores_home: Path, creates: list[Create]
) -> None:
    before = everything_stored(database, stores_home)
    with gateway.http() as http:
        for create in creates:
            answer = post(http, create.path, {**create.body, "surprise": 1})
            assert (answer.status_code, answer.json()["param"]) == (422, "surprise"), answer.text
            for content in (b"", b"{", b"[]", b"\xff\xfe{}", b'{"a": ' + b"[" * 100_000, b"null"):
                answer = http.post(create.path, content=content, headers={"Content-Type": "application/json"})
                assert answer.status_code in (400, 422), (create.path, content[:10], answer.text)
    assert everything_stored(database, stores_home) == before


def test_free_form_settings_are_judged_too(
    gateway: RunningGateway, database: Database, stores_home: Path, creates: list[Create]
) -> None:
    create = next(c for c in creates if c.path == "/v1/fine_tuning/jobs")
    before = everything_stored(database, stores_home)
    with gateway.http() as http:
        for training in (
            {"training_file": "/etc/passwd"},
            {"output_name": "../x"},
            {"learning_rate": "fast"},
            {"a\x00": 1},
            {"learning_rate": SURROGATE},
            {"target_modules": [{"deep": [1] * 1000}]},
        ):
            answer = post(http, create.path, {**create.body, "training": training})
            assert answer.status_code in (400, 422), answer.text
            assert answer.json()["param"], answer.text
    assert everything_stored(database, stores_home) == before


@pytest.mark.parametrize("name", [*PATHS, BIDI, "x" * 256, "..", "."])
def test_a_file_name_is_no_path(
    gateway: RunningGateway, database: Database, stores_home: Path, name: str
) -> None:
    before = everything_stored(database, stores_home)
    with gateway.http() as http:
        sent = {"file": (name, ROWS["chunks"])}
        answer = http.post("/v1/files", files=sent, data={"purpose": "chunks"})
    assert answer.status_code in (400, 422), answer.text
    assert everything_stored(database, stores_home) == before


def test_ids_in_addresses_are_no_paths(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        for id in ("..%2f..%2fetc%2fpasswd", "%00", "a%00b", "%ff", "x" * 300, "%E2%80%AE", "%F0%9F%92%A9"):
            for path in (
                "/v1/files/{}",
                "/v1/files/{}/content",
                "/v1/jobs/{}",
                "/v1/models/{}",
                "/v1/config/{}",
            ):
                answer = http.get(path.format(id))
                assert answer.status_code in (400, 404, 422), (path, id, answer.text)
                assert answer.headers["content-type"] == "application/problem+json"


def _rows(count: int, bad: int) -> Iterator[bytes]:
    """So many rows in blocks, one of them without an answer."""
    good = b'{"question": "What is it?", "answer": "This."}\n'
    for start in range(0, count, 10_000):
        block = [good] * min(10_000, count - start)
        if start <= bad - 1 < start + len(block):
            block[bad - 1 - start] = b'{"question": "What is it?"}\n'
        yield b"".join(block)


@pytest.mark.parametrize("rows", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_one_bad_row_of_many_is_named_in_little_memory(
    gateway: RunningGateway, database: Database, stores_home: Path, tmp_path: Path, rows: int
) -> None:
    path = tmp_path / "many.jsonl"
    with path.open("wb") as out:
        out.writelines(_rows(rows, rows - 1))
    answer, grown = _watched(gateway, database, stores_home, path)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_file"), answer.text
    assert [(row["row"], row["field"]) for row in answer.json()["rows"]] == [(rows - 1, "answer")]
    assert grown < 200 * 2**20


def test_one_line_of_50_mb_is_refused_in_little_memory(
    gateway: RunningGateway, database: Database, stores_home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("wb") as out:
        out.write(b'{"question": "')
        out.writelines(b"x" * 2**20 for _ in range(50))
        out.write(b'", "answer": "b"}\n')
    answer, grown = _watched(gateway, database, stores_home, path)
    assert (answer.status_code, answer.json()["rows"][0]["row"]) == (400, 1), answer.text
    assert "4 MB" in answer.json()["detail"]
    assert grown < 40 * 2**20


def _watched(
    gateway: RunningGateway, database: Database, home: Path, path: Path
) -> tuple[httpx.Response, int]:
    """Upload a file; the answer, and how many bytes the gateway grew at most. Nothing may stay behind."""
    process = psutil.Process(gateway.process.pid)
    before, stored = process.memory_info().rss, everything_stored(database, home)
    peak = before
    with gateway.http(timeout=300) as http, path.open("rb") as stream:
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.05):
                peak = max(peak, process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        answer = http.post("/v1/files", files={"file": (path.name, stream)}, data={"purpose": "fine-tune"})
        done.set()
        watcher.join()
    assert everything_stored(database, home) == stored
    return answer, peak - before
