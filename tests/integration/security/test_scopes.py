"""Keys reach neither another project's things nor operations beyond their scopes: every operation that there is, is tried.

The operations come from the gateway's own description, so that a new one is tried from its first day on.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import httpx
import pytest

from services.gateway.main import build
from services.gateway.settings import GatewaySettings
from tests.integration.security.conftest import World, assert_refused, standing_in_for

BESIDE = {
    "format": "html",
    "section": "limits",
    "alias": "champion",
    "position": "0",
    "name": "theirs",
    "action": "pin",
}
"""Parts of addresses that name nothing of a project."""
OF_THE_PLATFORM = ("/v1/alerts", "/v1/config", "/v1/monitoring/canaries")
"""What belongs to no project: some may look at it, and admins change it."""
ONLY_READS = frozenset({"/v1/evaluations/{id}/gate", "/v1/comparisons/{id}/what_if"})
"""Asked with POST, and changing nothing."""

HOST = ("cpu_percent", "cpu_count", "memory_used", "memory_total", "disk_used", "disk_total", "load_1m")


def _operations() -> list[tuple[str, str, dict[str, Any]]]:
    secret = "s" * 40
    settings = GatewaySettings(
        database_url="postgresql+psycopg://nobody@127.0.0.1:9/none",
        broker_url="redis://127.0.0.1:9/0",
        internal_token=secret,  # pyright: ignore[reportArgumentType]
        key_pepper=secret,  # pyright: ignore[reportArgumentType]
    )
    document = build(settings).openapi()
    return [
        (method.upper(), path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


OPERATIONS = _operations()
NAMED = [one for one in OPERATIONS if "{" in one[1] and not one[1].startswith(OF_THE_PLATFORM)]
CHANGES = [one for one in OPERATIONS if one[0] != "GET" and one[1] not in ONLY_READS]
ADMIN = [
    ("POST", "/v1/api_keys", {"name": "x", "scopes": ["read"]}),
    ("GET", "/v1/api_keys", None),
    ("POST", "/v1/api_keys/self/rotate", {}),
    ("POST", "/v1/projects", {"name": "mine"}),
    ("PATCH", "/v1/config/limits", {"values": {"burst": 1}, "reason": "x"}),
    ("POST", "/v1/config/limits/restore", {"version": 0, "reason": "x"}),
    ("GET", "/v1/audit", None),
    ("POST", "/v1/alerts/silences", {"match": {"rule": "X"}, "for_s": 60, "reason": "x"}),
    ("POST", "/v1/monitoring/canaries/gemma-3-270m/accept", None),
]


def _id(operation: tuple[str, str, Any]) -> str:
    return f"{operation[0]} {operation[1]}"


def _address(path: str, ids: dict[str, str]) -> str:
    kind = path.split("/")[2].removesuffix("s")
    named = defaultdict(lambda: "theirs", ids | BESIDE) | {
        "id": ids.get(kind, ids["job_id"]),
        "alert_id": "alert_1",
        "silence_id": "sil_1",
    }
    return path.format_map(named)


def _send(http: httpx.Client, method: str, path: str, operation: dict[str, Any]) -> httpx.Response:
    content = operation.get("requestBody", {}).get("content", {})
    if "multipart/form-data" in content:
        return http.request(method, path, files={"file": ("x.jsonl", b"{}")}, data={"purpose": "chunks"})
    body = content.get("application/json", {})
    example = body.get("example") or next(iter(body.get("examples", {}).values()), {}).get("value")
    return http.request(method, path, json=example, headers={"If-Match": "*"})


@pytest.mark.parametrize("operation", NAMED, ids=_id)
def test_no_operation_reaches_another_projects_things(
    world: World, operation: tuple[str, str, dict[str, Any]]
) -> None:
    method, path, described = operation
    address = _address(path, world.ids)
    with world.http() as http:
        answer = _send(http, method, address, described)
    if "{alias}" in path and method == "GET":
        assert answer.json()["data"] == [], "the attacker's own champion, which there is none of"
        return
    assert_refused(answer, 403, 404)
    if method == "GET":  # the owner's own request finds it: it was refused because of who asked
        with world.http(world.victim) as owner:
            assert owner.get(address).status_code not in (401, 403, 404)


@pytest.mark.parametrize("operation", CHANGES, ids=_id)
def test_a_reading_key_changes_nothing(world: World, operation: tuple[str, str, dict[str, Any]]) -> None:
    method, path, described = operation
    with world.http(world.reader) as http:
        assert_refused(_send(http, method, _address(path, world.ids), described), 403)


@pytest.mark.parametrize(("method", "path", "body"), ADMIN, ids=[f"{m} {p}" for m, p, _ in ADMIN])
def test_admin_operations_need_the_scope(
    world: World, method: str, path: str, body: dict[str, Any] | None
) -> None:
    with world.http() as http:
        assert_refused(http.request(method, path, json=body, headers={"If-Match": "*"}), 403)


BORROWED: dict[str, tuple[str, dict[str, Any]]] = {
    "a model to chat with": (
        "/v1/chat/completions",
        {"model": "{model}", "messages": [{"role": "user", "content": "x"}]},
    ),
    "a model to complete with": ("/v1/completions", {"model": "{model}", "prompt": "x"}),
    "an index to answer from": (
        "/v1/chat/completions",
        {"model": "rag:theirs@gemma-3-270m", "messages": [{"role": "user", "content": "x"}]},
    ),
    "an index by its id": (
        "/v1/chat/completions",
        {"model": "rag:{index_id}@gemma-3-270m", "messages": [{"role": "user", "content": "x"}]},
    ),
    "a file to index": ("/v1/indexes", {"name": "mine", "files": ["{file_id}"]}),
    "an index to build on": ("/v1/indexes", {"name": "mine", "files": [], "base": "{index_id}"}),
    "a file to train on": ("/v1/fine_tuning/jobs", {"model": "gemma-3-270m", "training_file": "{file_id}"}),
    "a model to evaluate": ("/v1/evaluations", {"model": "{model}", "suites": [{"name": "humaneval"}]}),
    "a file of items": (
        "/v1/evaluations",
        {"model": "gemma-3-270m", "suites": [{"name": "x", "file": "{file_id}"}]},
    ),
    "a file of examples": (
        "/v1/evaluations",
        {
            "model": "gemma-3-270m",
            "suites": [{"name": "humaneval"}],
            "prompt": {"examples_file": "{file_id}"},
        },
    ),
    "an evaluation to compare": (
        "/v1/comparisons",
        {
            "arms": [
                {"name": "a", "model": "gemma-3-270m", "evaluation": "{evaluation}"},
                {"name": "b", "model": "gemma-3-270m"},
            ],
            "suites": [{"name": "humaneval"}],
        },
    ),
    "a training to report": (
        "/v1/comparisons",
        {
            "arms": [{"name": "a", "model": "gemma-3-270m"}, {"name": "b", "model": "gemma-3-270m"}],
            "suites": [{"name": "humaneval"}],
            "training_job": "{job_id}",
        },
    ),
}


@pytest.mark.parametrize("what", BORROWED)
def test_another_projects_things_are_not_lent_to_new_work(world: World, what: str) -> None:
    path, body = BORROWED[what]
    with world.http() as http:
        assert_refused(http.post(path, json=_filled(body, world.ids)), 404)


def _filled(value: Any, ids: dict[str, str]) -> Any:
    match value:
        case dict():
            return {name: _filled(inner, ids) for name, inner in value.items()}
        case list():
            return [_filled(inner, ids) for inner in value]
        case str() if value.startswith(("{", "rag:{")):
            return value.format(**ids)
        case _:
            return value


@pytest.mark.parametrize(
    "path",
    ["/v1/files", "/v1/jobs", "/v1/fine_tuning/jobs", "/v1/indexes", "/v1/evaluations", "/v1/comparisons",
     "/v1/pipelines", "/v1/sweeps", "/v1/models", "/v1/projects"],
)  # fmt: skip
def test_lists_hold_nothing_of_others(world: World, path: str) -> None:
    with world.http() as http:
        shown = http.get(path, params={"limit": 100}, headers={"X-MT-Project": world.ids["project_id"]})
    assert shown.status_code == 200, shown.text
    assert not [mark for mark in world.marks if mark in shown.text]


def test_running_jobs_of_others_are_not_shown(world: World) -> None:
    """What the monitor says of the whole machine is cut to the project's own jobs."""
    running = {"id": world.ids["job_id"], "kind": "train"}
    now = {"taken_at": "2026-01-01T00:00:00Z", "host": dict.fromkeys(HOST, 1), "jobs": [running]}
    with standing_in_for(world, "MONITOR", json.dumps(now)):
        with world.http() as http:
            theirs = http.get("/v1/monitoring/resources")
            with http.stream(
                "GET", "/v1/monitoring/resources", headers={"Accept": "text/event-stream"}
            ) as live:
                readings = (line for line in live.iter_lines() if line.startswith("data: "))
                streamed = [json.loads(next(readings).removeprefix("data: ")) for _ in range(2)]
        with world.http(world.victim) as owner:
            own = owner.get("/v1/monitoring/resources")
    assert (theirs.status_code, theirs.json()["jobs"]) == (200, [])
    assert [reading["jobs"] for reading in streamed] == [[], []]
    assert [job["id"] for job in own.json()["jobs"]] == [world.ids["job_id"]]


OBSERVED = [
    one
    for one in OPERATIONS
    if one[0] == "GET"
    and one[1].startswith(
        ("/v1/alerts", "/v1/monitoring/canaries", "/v1/monitoring/drift", "/v1/monitoring/history")
    )
]


@pytest.mark.parametrize("operation", OBSERVED, ids=_id)
def test_the_platforms_own_state_needs_the_scope(
    world: World, operation: tuple[str, str, dict[str, Any]]
) -> None:
    path = _address(operation[1], world.ids)
    params = {"metric": "mt_host_cpu_ratio"}
    with world.http() as http:
        assert_refused(http.get(path, params=params), 403)
    with world.gateway.http() as admin:
        made = admin.post("/v1/api_keys", json={"name": "pager", "scopes": ["observe"]}).json()
        manager = admin.post("/v1/api_keys", json={"name": "manager", "scopes": ["admin"]}).json()
    for key in (made, manager):
        with standing_in_for(world, "MONITOR", json.dumps({})), world.http(key["key"]) as http:
            assert http.get(path, params=params).status_code == 200


def test_queues_are_shown_to_those_who_may_observe(world: World) -> None:
    queue = {"kind": "train", "waiting": 3, "running": 1}
    now = {"taken_at": "2026-01-01T00:00:00Z", "host": dict.fromkeys(HOST, 1), "queues": [queue]}
    with world.gateway.http() as admin:
        key = admin.post("/v1/api_keys", json={"name": "pager", "scopes": ["read", "observe"]}).json()["key"]
    with standing_in_for(world, "MONITOR", json.dumps(now)):
        shown = [_queues(world, one) for one in (None, key)]
    assert shown == [[], ["train"]]


def _queues(world: World, key: str | None) -> list[str]:
    with world.http(key) as http:
        return [queue["kind"] for queue in http.get("/v1/monitoring/resources").json()["queues"]]


def test_a_key_grants_and_rotates_no_more_than_it_has(world: World) -> None:
    with world.gateway.http() as admin:
        small = admin.post("/v1/api_keys", json={"name": "keeper", "scopes": ["admin", "read"]}).json()
        big = admin.post("/v1/api_keys", json={"name": "big", "scopes": ["admin", "submit"]}).json()
    with world.http(small["key"]) as http:
        assert_refused(http.post("/v1/api_keys", json={"name": "x", "scopes": ["infer"]}), 403)
        assert_refused(http.post(f"/v1/api_keys/{big['id']}/rotate", json={}), 403)


def test_the_project_header_is_for_services_only(world: World) -> None:
    with world.http() as http:
        answer = http.get(
            f"/v1/files/{world.ids['file_id']}", headers={"X-MT-Project": world.ids["project_id"]}
        )
    assert_refused(answer, 404)
