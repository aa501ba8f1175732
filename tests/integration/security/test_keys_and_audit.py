"""Keys under attack, their rotation, and the log of who did what."""

from __future__ import annotations

import dis
import inspect
import sys
import time
from types import FrameType
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from libs.common.auth import key_digest
from libs.common.db.engine import Database
from libs.common.db.tables import ApiKeyRow
from libs.common.errors import Unauthorized
from services.gateway.domain import Allowance
from services.gateway.service import keyring as module
from services.gateway.service.keyring import Keyring
from services.gateway.settings import GatewaySettings
from tests.conftest import Stores
from tests.integration.security.conftest import CHUNK, World, assert_refused

PEPPER = "pepper-" * 6
WATCHED = ("service/keyring.py", "repository_access.py", "common/auth.py")


def _settings(stores: Stores) -> GatewaySettings:
    known = stores.settings
    return GatewaySettings(
        database_url=known.database_url,
        broker_url=known.broker_url,
        internal_token=known.internal_token,
        key_pepper=PEPPER,  # pyright: ignore[reportArgumentType]
    )


def _steps(run: Any) -> int:
    """How many lines of this repository's Python a call runs: the same for every wrong key, however near it comes."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        # Not what the connection pool does: whether it asks a connection if it lives is a matter of time.
        if not frame.f_code.co_filename.endswith(WATCHED):
            return None
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(None)
    return count


def test_a_near_key_takes_as_many_steps_as_a_far_one(stores: Stores, database: Database) -> None:
    """A key is found by its HMAC, and tokens are compared in constant time: how near a guess comes cannot be timed."""
    ring = Keyring(database, _settings(stores))
    token = stores.settings.internal_token.get_secret_value()
    near = [
        token[:n] + ("x" if token[n] != "x" else "y") + token[n + 1 :]
        for n in (0, len(token) // 2, len(token) - 1)
    ]

    def ask(guess: str) -> None:
        with pytest.raises(Unauthorized):
            ring.find(guess, None, Allowance())

    ask("warm up")
    assert len({_steps(lambda guess=guess: ask(guess)) for guess in near}) == 1
    operators = {
        instruction.argrepr
        for instruction in dis.get_instructions(module.Keyring.known)
        if instruction.opname == "COMPARE_OP"
    }
    assert "==" not in operators, "secrets are never compared with =="
    assert "hmac.compare_digest" in inspect.getsource(module.Keyring.known)


def test_a_stolen_database_opens_nothing(world: World, database: Database) -> None:
    """What is stored is an HMAC under a pepper that is not in the database: it is no key, and leads to none."""
    with database.session() as session:
        digest = session.get_one(ApiKeyRow, world.ids["key_id"]).digest
    assert digest == key_digest(world.victim, PEPPER) != key_digest(world.victim, "")
    for guess in (digest, f"mt-{digest}"):
        with world.http(guess) as http:
            assert_refused(http.get("/v1/jobs"), 401)


@pytest.fixture
def admin(world: World) -> Any:
    with world.gateway.http() as http:
        yield http


def _make(admin: httpx.Client, **fields: Any) -> dict[str, Any]:
    return admin.post("/v1/api_keys", json={"name": "turned", "scopes": ["read"], **fields}).json()


def _works(world: World, secret: str) -> bool:
    with world.http(secret) as http:
        return http.get("/v1/jobs", params={"limit": 1}).status_code == 200


def test_a_rotated_key_keeps_its_id_and_both_secrets_work_for_the_overlap(
    world: World, admin: httpx.Client, database: Database
) -> None:
    made = _make(admin)
    turned = admin.post(f"/v1/api_keys/{made['id']}/rotate", json={"overlap_s": 3600}).json()
    assert turned["id"] == made["id"]
    assert turned["key"] != made["key"]
    assert _works(world, made["key"])
    assert _works(world, turned["key"])
    with database.session() as session:
        session.execute(
            text("update api_keys set overlap_until = now() - interval '1 s' where id = :id"),
            {"id": made["id"]},
        )
    _until(lambda: not _works(world, made["key"]))
    assert _works(world, turned["key"])


def test_without_an_overlap_the_old_secret_ends_at_once(world: World, admin: httpx.Client) -> None:
    made = _make(admin)
    assert _works(world, made["key"])
    turned = admin.post(f"/v1/api_keys/{made['id']}/rotate", json={"overlap_s": 0}).json()
    _until(lambda: not _works(world, made["key"]))
    assert _works(world, turned["key"])


def test_turned_twice_only_the_last_two_secrets_can_work(world: World, admin: httpx.Client) -> None:
    made = _make(admin)
    second = admin.post(f"/v1/api_keys/{made['id']}/rotate", json={"overlap_s": 3600}).json()
    third = admin.post(f"/v1/api_keys/{made['id']}/rotate", json={"overlap_s": 3600}).json()
    _until(lambda: not _works(world, made["key"]))
    assert _works(world, second["key"])
    assert _works(world, third["key"])


def test_a_revoked_key_is_not_turned(world: World, admin: httpx.Client) -> None:
    made = _make(admin)
    admin.delete(f"/v1/api_keys/{made['id']}")
    assert_refused(admin.post(f"/v1/api_keys/{made['id']}/rotate", json={}), 409)
    assert_refused(admin.post("/v1/api_keys/key_nope/rotate", json={}), 404)
    assert_refused(admin.post(f"/v1/api_keys/{made['id']}/rotate", json={"overlap_s": 10**9}), 422)


def test_self_is_the_key_that_asks(world: World, admin: httpx.Client) -> None:
    keeper = _make(admin, scopes=["admin", "read"])
    with world.http(keeper["key"]) as http:
        turned = http.post("/v1/api_keys/self/rotate", json={}).json()
    assert turned["id"] == keeper["id"]


def _until(is_true: Any) -> None:
    for _ in range(600):
        if is_true():
            return
        time.sleep(0.1)
    raise AssertionError("it did not become true within a minute")


# --- the audit log -------------------------------------------------------------------------------------------------------


def _entries(admin: httpx.Client, **where: str) -> list[dict[str, Any]]:
    answer = admin.get("/v1/audit", params={"limit": 100, **where})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_every_change_is_in_the_log_with_who_and_how(world: World, admin: httpx.Client) -> None:
    name = f"audited-{time.time_ns()}"
    project = admin.post("/v1/projects", json={"name": name}).json()["id"]
    key = _make(admin, scopes=["read", "submit"], project=project)
    with world.http(key["key"]) as http:
        headers = {"X-Request-ID": f"audit-{time.time_ns()}"}
        file = http.post(
            "/v1/files", files={"file": ("c.jsonl", CHUNK)}, data={"purpose": "chunks"}, headers=headers
        ).json()["id"]
        job = http.post("/v1/indexes", json={"name": "docs", "files": [file]}).json()["id"]
        http.post(f"/v1/jobs/{job}/pause")
        http.post(f"/v1/jobs/{job}/cancel")
        http.delete(f"/v1/files/{file}")
        assert_refused(http.delete("/v1/models/model_nope"), 404)
    done = [(entry["action"], entry["target"]) for entry in reversed(_entries(admin, actor=key["id"]))]
    assert done == [
        ("file.created", file),
        ("job.created", job),
        ("job.changed", job),
        ("job.changed", job),
        ("file.deleted", file),
    ]
    stored = _entries(admin, target=file)[-1]
    assert stored["request_id"] == headers["X-Request-ID"]
    assert (stored["operation"], stored["project"], stored["actor_name"]) == (
        "POST /v1/files",
        project,
        "turned",
    )
    assert stored["data"]["filename"] == "c.jsonl"
    cancelled = _entries(admin, target=job)[0]
    assert cancelled["operation"] == "POST /v1/jobs/{job_id}/cancel"
    assert cancelled["data"]["state"] == ["paused", "cancelled"]
    assert _entries(admin, action="project.created")[0]["target"] == project
    assert _entries(admin, action="api_key.created")[0]["target"] == key["id"]


def test_configuration_and_keys_are_in_the_log_without_secrets(world: World, admin: httpx.Client) -> None:
    made = _make(admin)
    turned = admin.post(f"/v1/api_keys/{made['id']}/rotate", json={}).json()
    admin.delete(f"/v1/api_keys/{made['id']}")
    changed = admin.patch(
        "/v1/config/rag", json={"values": {"passages": 7}, "reason": "tried"}, headers={"If-Match": "*"}
    )
    assert changed.status_code == 200, changed.text
    entries = _entries(admin, target=made["id"])
    assert [entry["action"] for entry in entries] == ["api_key.changed", "api_key.changed", "api_key.created"]
    assert entries[0]["data"]["revoked_at"][0] is None
    config = _entries(admin, action="config.created")[0]
    assert (config["target"], config["data"]["values"]["passages"]) == ("rag", 7)
    everything = str(_entries(admin))
    assert not [secret for secret in (made["key"], turned["key"], "digest") if secret in everything]


def test_what_is_refused_is_not_in_the_log_and_what_fails_leaves_no_line(
    world: World, admin: httpx.Client
) -> None:
    before = _entries(admin)[0]["id"]
    body = {"name": f"twice-{time.time_ns()}"}
    assert admin.post("/v1/projects", json=body).status_code == 200
    assert_refused(admin.post("/v1/projects", json=body), 409)
    assert_refused(admin.patch("/v1/config/rag", json={"values": {"x": 1}, "reason": "y"}), 428)
    fresh = [entry for entry in _entries(admin) if entry["id"] > before]
    assert [entry["action"] for entry in fresh] == ["project.created"]


def test_pages_of_the_log_follow_each_other(world: World, admin: httpx.Client) -> None:
    for _ in range(5):
        _make(admin)
    seen, after = [], None
    for _ in range(3):
        page = admin.get("/v1/audit", params={"limit": 2, **({"after": after} if after else {})}).json()
        assert page["has_more"]
        after = page["last_id"]
        seen += [entry["id"] for entry in page["data"]]
    assert seen == sorted(set(seen), reverse=True)


@pytest.mark.parametrize("statement", ["update audit_log set actor = 'nobody'", "delete from audit_log"])
def test_nobody_changes_the_log(
    world: World, admin: httpx.Client, database: Database, statement: str
) -> None:
    _make(admin)
    with pytest.raises(DBAPIError, match="only added to"), database.session() as session:
        session.execute(text(statement))


def test_the_log_is_for_admins(world: World) -> None:
    with world.http() as http:
        assert_refused(http.get("/v1/audit"), 403)
