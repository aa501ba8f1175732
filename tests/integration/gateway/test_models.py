"""The champion: promoting, rolling back, asking it, and what it protects."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from libs.common.db.engine import Database
from libs.common.db.tables import ArtifactRow, ModelRow
from libs.common.ids import new_id
from tests.integration.gateway.conftest import RunningGateway
from tests.integration.gateway.test_keys_and_projects import make_key, make_project

ADAPTER = {
    "adapter_config.json": json.dumps({"base_model_name_or_path": "gemma-3-270m"}).encode(),
    "adapter_model.safetensors": b"\x02\x00\x00\x00\x00\x00\x00\x00{}",
}


@pytest.fixture
def project(gateway: RunningGateway, database: Database) -> tuple[httpx.Client, list[str]]:
    """A client of a project of its own, and three tuned models in it, newest first."""
    with gateway.http() as admin:
        project = make_project(admin, "champions")["id"]
        key = make_key(admin, project=project, scopes=["read", "submit", "infer"])
    with database.session() as session:
        session.merge(ArtifactRow(sha256="f" * 64, kind="adapter", bytes=1))
    ids = [new_id("model") for _ in range(3)]
    with database.session() as session:
        for id in ids:
            session.add(
                ModelRow(id=id, project_id=project, base="gemma-3-270m", artifact="f" * 64, state="servable")
            )
    return gateway.http(key["key"]), sorted(ids, reverse=True)


def promote(http: httpx.Client, model: str, version: int | str) -> httpx.Response:
    tag = version if isinstance(version, str) else f'"{version}"'
    return http.post(f"/v1/models/{model}/promote", json={"reason": "better"}, headers={"If-Match": tag})


def rollback(http: httpx.Client, version: int) -> httpx.Response:
    return http.post("/v1/models/champion/rollback", json={}, headers={"If-Match": f'"{version}"'})


def test_the_champion_moves_forward_and_back(project: tuple[httpx.Client, list[str]]) -> None:
    http, (a, b, c) = project
    with http:
        assert http.get("/v1/models/champion").status_code == 404
        unnamed = http.post(f"/v1/models/{a}/promote", json={})
        assert (unnamed.status_code, '"0"' in unnamed.json()["hint"]) == (428, True)
        for version, model in enumerate((a, b, c)):
            answer = promote(http, model, version)
            assert (answer.status_code, answer.json()["model"]) == (200, model), answer.text
            assert answer.headers["etag"] == f'"{version + 1}"'
        assert promote(http, a, 1).status_code == 412
        assert http.get("/v1/models/champion").json()["id"] == c
        assert rollback(http, 3).json()["model"] == b
        assert rollback(http, 4).json()["model"] == a  # further back, not to and fro
        assert (rollback(http, 5).status_code, rollback(http, 5).json()["code"]) == (409, "conflict")
        assert promote(http, c, 5).json()["model"] == c
        assert rollback(http, 6).json()["model"] == a
        moves = http.get("/v1/models/champion/history").json()["data"]
        assert [(m["version"], m["model"], m["restores"]) for m in moves[:3]] == [
            (7, a, 1),
            (6, c, None),
            (5, a, 1),
        ]
        assert http.get(f"/v1/models/{a}").json()["aliases"] == ["champion"]


def test_the_champion_answers_and_is_named_in_jobs_as_what_it_was(
    project: tuple[httpx.Client, list[str]],
) -> None:
    http, (a, b, _) = project
    with http:
        question = {"model": "champion", "messages": [{"role": "user", "content": "Hi"}]}
        missing = http.post("/v1/chat/completions", json=question)
        assert (missing.status_code, missing.json()["param"]) == (404, "model")
        promote(http, a, 0)
        assert (
            http.post("/v1/chat/completions", json=question).status_code == 503
        )  # known; nobody serves it here
        body = {"model": "champion", "suites": [{"name": "humaneval", "limit": 1}]}
        job = http.post("/v1/evaluations", json=body).json()
        promote(http, b, 1)
        assert http.get(f"/v1/jobs/{job['id']}").json()["spec"]["model"] == a


def test_a_model_is_deleted_unless_something_needs_it(project: tuple[httpx.Client, list[str]]) -> None:
    http, (a, b, c) = project
    with http:
        promote(http, a, 0)
        assert http.delete(f"/v1/models/{a}").status_code == 409
        job = http.post("/v1/evaluations", json={"model": b, "suites": [{"name": "humaneval"}]}).json()
        refused = http.delete(f"/v1/models/{b}")
        assert (refused.status_code, job["id"] in refused.json()["detail"]) == (409, True)
        http.post(f"/v1/jobs/{job['id']}/cancel")
        for model in (b, c):
            assert http.delete(f"/v1/models/{model}").json() == {
                "id": model,
                "object": "model",
                "deleted": True,
            }
            assert http.get(f"/v1/models/{model}").status_code == 404
        assert http.delete("/v1/models/gemma-3-270m").status_code == 409
        assert promote(http, c, 1).status_code == 404


def test_models_come_in_pages(project: tuple[httpx.Client, list[str]]) -> None:
    http, ids = project
    with http:
        first = http.get("/v1/models", params={"limit": 2}).json()
        rest = http.get("/v1/models", params={"limit": 2, "after": first["last_id"]}).json()
    assert [m["id"] for m in first["data"]] == ids[:2]
    assert first["has_more"]
    assert rest["data"][0]["id"] == ids[2]


def test_an_import_sent_twice_happens_once(gateway: RunningGateway, database: Database) -> None:
    files: list[Any] = [("files", (name, content)) for name, content in ADAPTER.items()]
    with gateway.http() as http:
        headers = {"Idempotency-Key": f"import-{time.time_ns()}"}
        first = http.post("/v1/models/import", files=files, headers=headers)
        again = http.post("/v1/models/import", files=files, headers=headers)
        assert first.status_code == 200, first.text
        assert first.json() == again.json()
        assert http.post("/v1/models/import", files=files).json()["id"] == first.json()["id"]
        for name in ("../adapter_config.json", "a\u202ename.json", "model.bin"):
            bad = http.post("/v1/models/import", files=[*files, ("files", (name, b"{}"))])
            assert (bad.status_code, bad.json()["param"]) == (400, "files"), bad.text
    with database.session() as session:
        count = session.scalar(text("select count(*) from models where lineage->>'imported' = 'true'"))
    assert count == 1
