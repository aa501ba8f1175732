"""The gateway over HTTP: what is waited out, what is passed on as a failure, and pages that are read to their end."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from libs.common.errors import JobFailure, JobStopped
from services.comparator.adapters.gateway_http import GatewayPlatform
from tests.unit.comparator.made_up import answer

Handler = Callable[[httpx.Request], httpx.Response]


def platform(handler: Handler, **changes: object) -> GatewayPlatform:
    client = httpx.Client(base_url="http://gateway", transport=httpx.MockTransport(handler))
    return GatewayPlatform(client, patience_s=5.0, **changes)  # type: ignore[arg-type]


def job(state: str) -> dict[str, object]:
    return {"id": "eval_1", "kind": "evaluate", "state": state, "created_at": "2026-01-01T00:00:00Z"}


def test_a_gateway_that_restarts_is_waited_out() -> None:
    answers = iter([httpx.Response(503, text="starting"), httpx.Response(200, json=job("running"))])

    def handler(request: httpx.Request) -> httpx.Response:
        return next(answers)

    assert platform(handler).job("eval_1").state.value == "running"


def test_a_gateway_that_stays_away_ends_in_a_failure_that_may_be_tried_again() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    client = httpx.Client(base_url="http://gateway", transport=httpx.MockTransport(handler))
    with pytest.raises(JobFailure, match="connection refused") as caught:
        GatewayPlatform(client, patience_s=0.1).job("eval_1")
    assert caught.value.retry


def test_a_pause_does_not_wait_for_the_gateway() -> None:
    def stopped() -> None:
        raise JobStopped

    with pytest.raises(JobStopped):
        platform(lambda request: httpx.Response(503), stopped=stopped).job("eval_1")


def test_a_refusal_keeps_its_reason() -> None:
    problem = {
        "title": "There is no such thing", "status": 404, "detail": "There is no model 'gema'.", "code": "not_found",
        "param": "model", "hint": "Bases: gemma-3-270m.", "blame": "user",
    }  # fmt: skip
    with pytest.raises(JobFailure) as caught:
        platform(lambda request: httpx.Response(404, json=problem)).job("eval_1")
    assert caught.value.error.message == "There is no model 'gema'."
    assert caught.value.error.blame == "user"
    assert caught.value.error.hint == "Bases: gemma-3-270m."


def test_an_answer_that_is_no_problem_is_still_named() -> None:
    with pytest.raises(JobFailure, match="HTTP 500: <h1>oops</h1>"):
        platform(lambda request: httpx.Response(500, text="<h1>oops</h1>")).job("eval_1")


def test_items_are_read_to_the_last_page() -> None:
    rows = [answer(i, True).model_dump(mode="json") for i in range(5)]

    def handler(request: httpx.Request) -> httpx.Response:
        after = request.url.params.get("after")
        start = 0 if after is None else 1 + next(i for i, row in enumerate(rows) if row["item_id"] == after)
        page = rows[start : start + 2]
        body = {"data": page, "last_id": page[-1]["item_id"], "has_more": start + 2 < len(rows)}
        return httpx.Response(200, json=body)

    assert [item.item_id for item in platform(handler).items("eval_1")] == [row["item_id"] for row in rows]


def test_cancelling_what_has_ended_is_no_error() -> None:
    platform(lambda request: httpx.Response(409, json={})).cancel("eval_1")


def test_versions_of_an_index_are_read_off_its_jobs() -> None:
    def job(number: int, name: str, **times: object) -> dict[str, object]:
        stamps = {"started_at": f"2026-01-0{number}T00:00:00Z", "finished_at": f"2026-01-0{number}T00:00:30Z"}
        return {
            "id": f"index_{number}", "kind": "index", "state": "succeeded", "created_at": "2026-01-01T00:00:00Z",
            "spec": {"name": name}, "result": {"embedded": number, "reused": 1, "removed": 0}, **stamps, **times,
        }  # fmt: skip

    jobs = [job(4, "docs"), job(3, "other"), job(2, "docs", started_at=None), job(1, "docs")]

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/jobs":
            assert request.url.params["kind"] == "index"
            return httpx.Response(200, json={"data": jobs, "last_id": "index_1", "has_more": False})
        if request.url.path == "/v1/indexes/gone":
            problem = {
                "title": "t",
                "status": 404,
                "code": "not_found",
                "detail": "no index",
                "blame": "user",
            }
            return httpx.Response(404, json=problem)
        index = {"id": "index_4", "name": "docs", "state": "succeeded", "created_at": "2026-01-01T00:00:00Z"}
        return httpx.Response(200, json={**index, "embedder": "all-minilm-l6-v2"})

    found = platform(handler).index_versions("index_4")
    assert [(version.embedded, version.seconds) for version in found] == [(1, 30.0), (4, 30.0)]
    assert platform(handler).index_versions("gone") == []
