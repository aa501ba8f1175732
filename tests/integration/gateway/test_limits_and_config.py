"""Limits of a key, and configuration that every process takes up while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from libs.common.db.engine import Database
from libs.common.jobs import transitions
from model_training.contracts.jobs import JobKind
from tests.conftest import Stores
from tests.integration.gateway.conftest import RunningGateway, running_gateway
from tests.integration.gateway.test_keys_and_projects import make_key, make_project, upload
from tests.integration.jobs.helpers import wait

NO_BROKER = {"MT_BROKER_URL": "redis://:x@127.0.0.1:1/0"}
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def replica(stores: Stores, gateway: RunningGateway) -> Iterator[RunningGateway]:
    """A second gateway on the same database."""
    with running_gateway(stores, {"MT_JOBS_MAX_ATTEMPTS": "5"}) as running:
        yield running


@pytest.fixture(scope="module")
def alone(stores: Stores, database: Database) -> Iterator[RunningGateway]:
    """A gateway without Valkey."""
    with running_gateway(stores, NO_BROKER) as running:
        yield running
        running.kill()


def change(http: httpx.Client, section: str, values: dict[str, Any], **headers: str) -> httpx.Response:
    body = {"values": values, "reason": "a test"}
    return http.patch(f"/v1/config/{section}", json=body, headers=headers)


@contextmanager
def changed(http: httpx.Client, section: str, **values: Any) -> Iterator[None]:
    """The section with these values, and as it was afterwards."""
    answer = change(http, section, values, **{"If-Match": "*"})
    assert answer.status_code == 200, answer.text
    yield
    change(http, section, dict.fromkeys(values), **{"If-Match": "*"})


def test_a_section_says_where_each_value_comes_from(gateway: RunningGateway, replica: RunningGateway) -> None:
    with gateway.http() as here, replica.http() as there:
        assert here.get("/v1/config/jobs").json()["values"]["max_attempts"]["origin"] == "default"
        value = there.get("/v1/config/jobs").json()["values"]["max_attempts"]
        assert (value["value"], value["origin"]) == (5, "environment")
        with changed(here, "jobs", max_attempts=7):
            value = there.get("/v1/config/jobs").json()["values"]["max_attempts"]
            assert (value["value"], value["origin"], value["inherited"]) == (7, "runtime", 5)
        assert {section["section"] for section in here.get("/v1/config").json()["data"]} >= {"limits", "jobs"}


def test_a_change_needs_the_version_a_reason_and_sense(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        tag = http.get("/v1/config/limits").headers["etag"]
        assert change(http, "limits", {"burst": 3000}).status_code == 428
        assert change(http, "limits", {"burst": 3000}, **{"If-Match": '"999"'}).status_code == 412
        no_reason = http.patch("/v1/config/limits", json={"values": {"burst": 1}}, headers={"If-Match": tag})
        assert (no_reason.status_code, no_reason.json()["param"]) == (422, "reason")
        for name, value in (("burst", 0), ("bursts", 1), ("burst", "1"), ("burst", 3e9)):
            bad = change(http, "limits", {name: value}, **{"If-Match": tag})
            assert (bad.status_code, bad.json()["param"]) == (400, f"values.{name}"), bad.text
        assert change(http, "nothing", {"a": 1}, **{"If-Match": "*"}).status_code == 404
        assert http.get("/v1/config/limits").headers["etag"] == tag


def test_history_and_restore_name_who_when_and_why(gateway: RunningGateway) -> None:
    with gateway.http() as admin:
        key = make_key(admin, scopes=["admin", "read"])
        with gateway.http(key["key"]) as http:
            tag = http.get("/v1/config/rag").headers["etag"]
            first = change(http, "rag", {"passages": 3}, **{"If-Match": tag})
            assert first.status_code == 200
            second = change(http, "rag", {"mode": "bm25"}, **{"If-Match": first.headers["etag"]})
            newest = http.get("/v1/config/rag/history", params={"limit": 2}).json()["data"]
            assert [v["values"] for v in newest] == [{"passages": 3, "mode": "bm25"}, {"passages": 3}]
            assert [(v["changed_by"], v["reason"]) for v in newest] == [(key["id"], "a test")] * 2
            restored = http.post(
                "/v1/config/rag/restore",
                json={"version": first.json()["version"], "reason": "bm25 was worse"},
                headers={"If-Match": second.headers["etag"]},
            )
            assert restored.status_code == 200, restored.text
            assert restored.json()["values"]["mode"]["origin"] == "default"
            assert restored.json()["version"] == second.json()["version"] + 1
            empty = {"version": 0, "reason": "as delivered"}
            gone = http.post("/v1/config/rag/restore", json=empty, headers={"If-Match": "*"})
            assert {value["origin"] for value in gone.json()["values"].values()} == {"default"}


def test_every_process_takes_a_change_up_without_a_restart(
    gateway: RunningGateway, replica: RunningGateway
) -> None:
    with gateway.http() as here, replica.http() as there:
        file = upload(here).json()["id"]

        def attempts(http: httpx.Client) -> int:
            job = http.post("/v1/indexes", json={"name": "docs", "files": [file]}).json()["id"]
            http.post(f"/v1/jobs/{job}/cancel")
            return http.get(f"/v1/jobs/{job}").json()["max_attempts"]

        assert attempts(there) == 5
        with changed(here, "jobs", max_attempts=9):
            assert attempts(here) == 9
            wait(lambda: attempts(there) == 9)
        wait(lambda: attempts(there) == 5)


def test_a_key_is_held_to_its_rate_over_all_replicas(
    gateway: RunningGateway, replica: RunningGateway
) -> None:
    with gateway.http() as admin, changed(admin, "limits", requests_per_s=1.0, burst=10):
        with replica.http(
            make_key(admin)["key"]
        ) as first:  # the replica reads its configuration once a second
            wait(lambda: first.get("/v1/jobs?limit=1").status_code == 429)
        key = make_key(admin)
        with gateway.http(key["key"]) as here, replica.http(key["key"]) as there:
            began = time.monotonic()
            answers = [http.get("/v1/jobs?limit=1") for _ in range(12) for http in (here, there)]
            refused = [a for a in answers if a.status_code == 429]
            refilled = time.monotonic() - began
            assert 24 - 10 - refilled - 1 <= len(refused) <= 14
            assert refused[0].json()["code"] == "rate_limited"
            assert int(refused[0].headers["retry-after"]) >= 1
        assert admin.get("/v1/jobs?limit=1").status_code == 200  # another key has a bucket of its own


def test_the_queue_of_a_key_is_bounded(gateway: RunningGateway) -> None:
    with gateway.http() as admin:
        project = make_project(admin, "deep")
        key = make_key(admin, project=project["id"])
        with changed(admin, "limits", max_open_jobs_per_key=1), gateway.http(key["key"]) as http:
            body = {"name": "docs", "files": [upload(http).json()["id"]]}
            assert http.post("/v1/indexes", json=body).status_code == 200
            full = http.post("/v1/indexes", json=body)
            assert (full.status_code, full.json()["code"]) == (429, "quota_exceeded")
            other = make_key(admin, project=project["id"])
            with gateway.http(other["key"]) as second:
                assert second.post("/v1/indexes", json=body).status_code == 200


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_is_refused_before_it_is_read_whole(gateway: RunningGateway, declared: bool) -> None:
    blocks = [b"x" * 100_000] * 80
    with gateway.http() as http:
        content: Any = b"".join(blocks) if declared else iter(blocks)
        answer = http.post("/v1/evaluations", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large"), answer.text


def test_the_gateway_serves_while_valkey_is_away(alone: RunningGateway) -> None:
    with alone.http() as http:
        started = time.monotonic()
        assert all(http.get("/v1/jobs?limit=1").status_code == 200 for _ in range(20))
        assert time.monotonic() - started < 15  # not one wait for Valkey per request
    log = alone.log.read_text(encoding="utf-8")
    assert 1 <= log.count("rate_limit_off") <= 4  # said once in a while, not for every request


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Host": "evil.example"}, 400, "invalid_input"),
        ({"Origin": "https://evil.example"}, 403, "forbidden"),
        ({"Origin": "null"}, 403, "forbidden"),
        ({"Origin": "http://localhost:8080"}, 200, None),
    ],
)
def test_host_and_origin_are_checked(
    gateway: RunningGateway, headers: dict[str, str], status: int, code: str | None
) -> None:
    with gateway.http() as http:
        answer = http.get("/v1/jobs", headers=headers)
    assert (answer.status_code, answer.json().get("code")) == (status, code)


def test_a_stream_goes_on_at_another_replica_and_after_a_restart(
    stores: Stores, gateway: RunningGateway, alone: RunningGateway, database: Database
) -> None:
    with database.session() as session:
        job_id = transitions.create(session, JobKind.COMPARE, "proj_default", {"arms": []}).id

    def step(pause: bool) -> None:
        with database.session() as session:
            job = transitions.locked(session, job_id)
            (transitions.request_pause if pause else transitions.resume)(session, job)

    seen: list[int] = []
    seen += _read(alone, job_id, None, 1)
    step(pause=True)
    seen += _read(alone, job_id, seen[-1], 1)
    alone.kill()
    step(pause=False)
    long = NO_BROKER | {"MT_DRAIN_S": "3600"}
    with running_gateway(stores, long, port=int(alone.url.rpartition(":")[2])) as again:
        assert again.url == alone.url
        seen += _read(again, job_id, seen[-1], 1)
        with again.http() as http, http.stream("GET", f"/v1/jobs/{job_id}/events", headers=EVENTS) as stream:
            lines = stream.iter_lines()
            next(lines)
            again.process.terminate()
            # A stream that does not end by itself keeps nobody waiting for an hour.
            assert not any("event: end" in line for line in lines)
        again.process.wait(timeout=60)
    step(pause=True)
    seen += _read(gateway, job_id, seen[-1], 1)
    with database.session() as session:
        transitions.request_cancel(session, transitions.locked(session, job_id))
    seen += _read(gateway, job_id, seen[-1], None)
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) == 5


def _read(gateway: RunningGateway, job_id: str, last: int | None, count: int | None) -> list[int]:
    """Sequences from the stream: so many, or all until it ends."""
    headers = EVENTS | ({"Last-Event-ID": str(last)} if last is not None else {})
    seen: list[int] = []
    with gateway.http() as http, http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as stream:
        for line in stream.iter_lines():
            if line.startswith("id: "):
                seen.append(int(line.removeprefix("id: ")))
                if len(seen) == count:
                    break
    return seen
