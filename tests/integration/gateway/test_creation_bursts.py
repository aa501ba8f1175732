"""Many clients that create at the same moment, each with an Idempotency-Key of its own."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from libs.common.db.engine import Database
from services.gateway.api.creating import AT_ONCE
from tests.integration.gateway.conftest import RunningGateway

CLIENTS = 50
ROWS = {
    "chunks": '{"id": "a", "title": "t", "text": "words"}\n',
    "fine-tune": '{"question": "What is LoRA?", "answer": "An adapter."}\n' * 5,
}
HELD = text("select count(*) from pg_locks where relation = 'idempotency_keys'::regclass and not granted")


@pytest.mark.parametrize("route", ["/v1/fine_tuning/jobs", "/v1/indexes", "/v1/sweeps"])
def test_fifty_keyed_creations_at_once_all_succeed(
    gateway: RunningGateway, database: Database, route: str
) -> None:
    with gateway.http(timeout=300) as http:
        purpose = "chunks" if route == "/v1/indexes" else "fine-tune"
        body = _body(route, _upload(http, purpose))
        keys = [uuid.uuid4().hex for _ in range(CLIENTS)]

        def create(key: str) -> httpx.Response:
            return http.post(route, json=body, headers={"Idempotency-Key": key})

        with ThreadPoolExecutor(CLIENTS) as clients:
            with database.session() as session:
                # Everybody who has begun a transaction waits in it until what was read before is too old to be used:
                # whoever needs a second connection then stands in the way of all others.
                session.execute(text("lock table idempotency_keys"))
                answers = [clients.submit(create, key) for key in keys]
                _wait_for_held(database, AT_ONCE)
                time.sleep(1.5)  # older than `RuntimeConfig` lets a section become
            found = [answer.result() for answer in answers]
        assert [a.status_code for a in found] == [200] * CLIENTS, {a.text for a in found if not a.is_success}
        ids = [answer.json()["id"] for answer in found]
        assert len(set(ids)) == CLIENTS
        assert [create(key).json()["id"] for key in keys[:3]] == ids[:3]
        for job in ids:
            http.post(f"/v1/jobs/{job}/cancel").raise_for_status()


def _upload(http: httpx.Client, purpose: str) -> str:
    file = {"file": ("rows.jsonl", ROWS[purpose].encode())}
    answer = http.post("/v1/files", files=file, data={"purpose": purpose})
    assert answer.is_success, answer.text
    return answer.json()["id"]


def _body(route: str, file: str) -> dict[str, Any]:
    if route == "/v1/indexes":
        return {"name": "docs", "files": [file]}
    body: dict[str, Any] = {"model": "gemma-3-270m", "training_file": file}
    return body | {"search": {"lora_r": [4, 8]}} if route == "/v1/sweeps" else body


def _wait_for_held(database: Database, count: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        with database.session() as session:
            if (session.scalar(HELD) or 0) >= count:
                return
        assert time.monotonic() < deadline, "no creation has begun"
        time.sleep(0.05)
