"""Keys, projects and quotas over HTTP."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from libs.common.auth import key_digest
from libs.common.db.engine import Database
from libs.common.db.tables import ApiKeyRow
from tests.conftest import Stores
from tests.integration.gateway.conftest import RunningGateway
from tests.integration.jobs.helpers import wait

CHUNK = b'{"id": "a", "title": "t", "text": "words"}\n'


def make_project(http: httpx.Client, name: str, **fields: Any) -> dict[str, Any]:
    answer = http.post("/v1/projects", json={"name": f"{name}-{time.time_ns()}", **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def make_key(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = http.post("/v1/api_keys", json={"name": "test", "scopes": ["read", "submit"], **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def upload(http: httpx.Client, content: bytes = CHUNK) -> httpx.Response:
    return http.post("/v1/files", files={"file": ("c.jsonl", content)}, data={"purpose": "chunks"})


def test_a_key_is_shown_once_and_kept_as_its_hmac(gateway: RunningGateway, database: Database) -> None:
    with gateway.http() as http:
        headers = {"Idempotency-Key": f"key-{time.time_ns()}"}
        body = {"name": "ci", "scopes": ["read"], "expires_in_s": 3600}
        made = http.post("/v1/api_keys", json=body, headers=headers).json()
        again = http.post("/v1/api_keys", json=body, headers=headers).json()
        listed = next(k for k in http.get("/v1/api_keys").json()["data"] if k["id"] == made["id"])
    assert len(made["key"]) == 3 + 43  # 256 bits in base 64
    assert (again["id"], again["key"]) == (made["id"], None)
    assert "key" not in listed
    assert listed["expires_at"] is not None
    with database.session() as session:
        row = session.execute(text("select * from api_keys where id = :id"), {"id": made["id"]}).one()
        assert row.digest == key_digest(made["key"], "pepper-" * 6)
        everything = session.execute(text("select response::text from idempotency_keys")).scalars().all()
    assert not any(made["key"] in answer for answer in everything)
    with gateway.http(made["key"]) as http:
        assert http.get("/v1/jobs").status_code == 200


def test_a_key_does_what_its_scopes_allow_until_it_is_revoked(gateway: RunningGateway) -> None:
    with gateway.http() as admin:
        reader = make_key(admin, scopes=["read"])
        with gateway.http(reader["key"]) as http:
            assert http.get("/v1/files").status_code == 200
            for refused in (
                upload(http),
                http.get("/v1/api_keys"),
                http.post("/v1/chat/completions", json={}),
            ):
                assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
            assert admin.delete(f"/v1/api_keys/{reader['id']}").json()["deleted"]
            gone = http.get("/v1/files")
            assert (gone.status_code, gone.headers["www-authenticate"]) == (401, "Bearer")
        assert admin.delete("/v1/api_keys/key_nope").status_code == 404


def test_a_key_grants_no_scope_that_it_lacks_and_does_not_end_itself(gateway: RunningGateway) -> None:
    with gateway.http() as admin:
        keeper = make_key(admin, scopes=["admin", "read"])
        with gateway.http(keeper["key"]) as http:
            refused = http.post("/v1/api_keys", json={"name": "x", "scopes": ["read", "submit"]})
            assert (refused.status_code, refused.json()["param"]) == (403, "scopes")
            assert "'submit'" in refused.json()["detail"]
            assert http.delete(f"/v1/api_keys/{keeper['id']}").status_code == 409


def test_a_key_expires(gateway: RunningGateway, database: Database) -> None:
    with gateway.http() as admin:
        past = admin.post(
            "/v1/api_keys", json={"name": "x", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"}
        )
        assert (past.status_code, past.json()["param"]) == (400, "expires_at")
        short = make_key(admin, expires_in_s=3600)
    with gateway.http(short["key"]) as http:
        assert http.get("/v1/files").status_code == 200
        with database.session() as session:
            session.get_one(ApiKeyRow, short["id"]).expires_at = datetime(2020, 1, 1, tzinfo=UTC)
        wait(lambda: http.get("/v1/files").status_code == 401)


def test_secrets_are_never_logged(gateway: RunningGateway, stores: Stores) -> None:
    wrong = "mt-" + "w" * 43
    with gateway.http() as admin:
        made = make_key(admin, scopes=["read", "submit"])
        admin.post("/v1/api_keys", json={"name": made["key"], "scopes": "no list"})
    for key in (made["key"], wrong):
        with gateway.http(key) as http:
            http.get("/v1/files", params={"after": "x"})
            upload(http)
            http.post("/v1/fine_tuning/jobs", json={"model": 1})
    log = gateway.log.read_text(encoding="utf-8")  # everything, down to DEBUG
    assert len([json.loads(line) for line in log.splitlines()]) > 3
    secrets = [made["key"], wrong, gateway.key, *stores.environment.values()]
    for secret in (s for s in secrets if len(s) > 20 and "/" not in s):
        assert secret not in log


def test_other_projects_are_invisible(gateway: RunningGateway) -> None:
    with gateway.http() as admin:
        project = make_project(admin, "apart")
        key = make_key(admin, project=project["id"])
        mine = upload(admin).json()["id"]
        with gateway.http(key["key"]) as http:
            theirs = upload(http).json()["id"]
            job = http.post("/v1/indexes", json={"name": "docs", "files": [theirs]}).json()["id"]
            assert [file["id"] for file in http.get("/v1/files").json()["data"]] == [theirs]
            assert http.get(f"/v1/files/{mine}").status_code == 404
            assert http.post("/v1/indexes", json={"name": "docs", "files": [mine]}).status_code == 404
            assert http.get("/v1/projects/proj_default").status_code == 404
            assert [p["id"] for p in http.get("/v1/projects").json()["data"]] == [project["id"]]
            for path in (
                f"/v1/files/{theirs}",
                f"/v1/files/{theirs}/content",
                f"/v1/jobs/{job}",
                f"/v1/indexes/{job}",
            ):
                assert http.get(path).status_code == 200
                assert admin.get(path).status_code == 404, path
            assert admin.post(f"/v1/jobs/{job}/cancel").status_code == 404
            assert http.post(f"/v1/jobs/{job}/cancel").status_code == 200


def test_a_project_changes_only_from_the_version_that_was_read(gateway: RunningGateway) -> None:
    with gateway.http() as admin:
        project = make_project(admin, "versioned", priority=1)
        path = f"/v1/projects/{project['id']}"
        missing = admin.patch(path, json={"priority": 2})
        assert (missing.status_code, missing.json()["code"]) == (428, "version_required")
        assert '"1"' in missing.json()["hint"]
        tag = admin.get(path).headers["etag"]
        first = admin.patch(path, json={"priority": 2, "weight": 2.5}, headers={"If-Match": tag})
        assert (first.status_code, first.json()["priority"], first.headers["etag"]) == (200, 2, '"2"')
        stale = admin.patch(path, json={"priority": 3}, headers={"If-Match": tag})
        assert (stale.status_code, stale.json()["code"]) == (412, "stale_version")
        assert admin.get(path).json()["priority"] == 2
        taken = admin.post("/v1/projects", json={"name": project["name"]})
        assert (taken.status_code, taken.json()["param"]) == (409, "name")


@pytest.mark.parametrize("same_moment", [False, True])
def test_a_project_has_as_many_open_jobs_as_its_quota_says(
    gateway: RunningGateway, same_moment: bool
) -> None:
    with gateway.http() as admin:
        project = make_project(admin, "small", quotas={"max_open_jobs": 2})
        key = make_key(admin, project=project["id"])
        with gateway.http(key["key"]) as http:
            file = upload(http).json()["id"]
            start = threading.Barrier(6)

            def create(position: int) -> httpx.Response:
                if same_moment:
                    start.wait()
                return http.post("/v1/indexes", json={"name": f"i{position}", "files": [file]})

            with ThreadPoolExecutor(6 if same_moment else 1) as pool:
                answers = list(pool.map(create, range(6)))
            made = [a.json()["id"] for a in answers if a.status_code == 200]
            refused = [a for a in answers if a.status_code == 429]
            assert (len(made), len(refused)) == (2, 4)
            assert refused[0].json()["code"] == "quota_exceeded"
            assert int(refused[0].headers["retry-after"]) >= 1
            assert admin.get(f"/v1/projects/{project['id']}").json()["usage"]["open_jobs"] == 2
            for job in made:
                http.post(f"/v1/jobs/{job}/cancel")
            assert http.post("/v1/indexes", json={"name": "i", "files": [file]}).status_code == 200


def test_a_project_stores_as_much_as_its_quota_says(gateway: RunningGateway) -> None:
    with gateway.http() as admin:
        project = make_project(admin, "tiny", quotas={"max_file_bytes": 100, "max_storage_bytes": 120})
        key = make_key(admin, project=project["id"])
        with gateway.http(key["key"]) as http:
            big = upload(http, CHUNK + CHUNK.replace(b'"a"', b'"b"') + CHUNK.replace(b'"a"', b'"c"'))
            assert (big.status_code, big.json()["code"]) == (413, "too_large")
            first = upload(http, CHUNK + CHUNK.replace(b'"a"', b'"b"'))
            assert first.status_code == 200, first.text
            full = upload(http, CHUNK)
            assert full.status_code in (413, 429), full.text
            usage = http.get(f"/v1/projects/{project['id']}").json()["usage"]
            assert usage["storage_bytes"] == first.json()["bytes"]
            http.delete(f"/v1/files/{first.json()['id']}")
            assert upload(http, CHUNK).status_code == 200
