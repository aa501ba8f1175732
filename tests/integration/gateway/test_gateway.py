"""The public door over plain HTTP; what the `openai` package sees of it is tests/contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from libs.common.db.engine import Database
from libs.common.jobs import transitions
from model_training.contracts.jobs import JobKind
from tests.integration.gateway.conftest import RunningGateway

ROWS = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(20)]


@pytest.fixture
def train_file(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def upload(
    http: httpx.Client, content: bytes, purpose: str = "fine-tune", name: str = "train.jsonl"
) -> httpx.Response:
    return http.post("/v1/files", files={"file": (name, content)}, data={"purpose": purpose})


@pytest.mark.parametrize(
    ("request_", "status", "code", "param"),
    [
        ({"model": "gpt-4"}, 400, "invalid_input", "model"),
        ({"training_file": "file_nope"}, 404, "not_found", "training_file"),
        ({"training": {"learning_rate": -1}}, 400, "invalid_input", "learning_rate"),
        ({"training": {"learnin_rate": 1e-3}}, 400, "invalid_input", "learnin_rate"),
        ({"seed": "x"}, 422, "invalid_shape", "seed"),
        ({"suffix": "x" * 65}, 422, "invalid_shape", "suffix"),
        ({"surprise": 1}, 422, "invalid_shape", "surprise"),
    ],
)
def test_a_bad_fine_tuning_request_names_the_field(
    gateway: RunningGateway, train_file: Path, request_: dict[str, Any], status: int, code: str, param: str
) -> None:
    with gateway.http() as http:
        file = upload(http, train_file.read_bytes()).json()
        before = http.get("/v1/jobs").json()["data"]
        answer = http.post(
            "/v1/fine_tuning/jobs", json={"model": "gemma-3-270m", "training_file": file["id"], **request_}
        )
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert answer.json()["param"] == param
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["error"]["message"]
        assert http.get("/v1/jobs").json()["data"] == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"question": "a", "answer": "b"}\n{"question": \n', "row 2"),
        (b'{"question": "a", "answer": ""}\n', "answer"),
        (b'{"question": "\xff", "answer": "b"}\n', "row 1"),
        (b"", "no rows"),
    ],
)
def test_a_bad_file_is_refused_and_its_rows_named(
    gateway: RunningGateway, stores_home: Path, content: bytes, says: str
) -> None:
    stored = set((stores_home / "files").glob("*")) | set((stores_home / "files").glob(".*"))
    with gateway.http() as http:
        answer = upload(http, content)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_file"), answer.text
    assert says in answer.json()["detail"]
    assert set((stores_home / "files").glob("*")) | set((stores_home / "files").glob(".*")) == stored


def test_the_same_idempotency_key_creates_once(gateway: RunningGateway, train_file: Path) -> None:
    with gateway.http() as http:
        file = upload(http, train_file.read_bytes()).json()
        body = {"model": "gemma-3-270m", "training_file": file["id"]}
        headers = {"Idempotency-Key": f"key-{file['id']}"}
        first = http.post("/v1/fine_tuning/jobs", json=body, headers=headers)
        again = http.post("/v1/fine_tuning/jobs", json=body, headers=headers)
        assert first.status_code == again.status_code == 200
        assert first.json() == again.json()
        other = http.post("/v1/fine_tuning/jobs", json={**body, "seed": 1}, headers=headers)
        assert (other.status_code, other.json()["code"]) == (409, "conflict")
        http.post(f"/v1/jobs/{first.json()['id']}/cancel")


def test_no_key_or_a_wrong_one_is_refused(gateway: RunningGateway) -> None:
    assert httpx.get(f"{gateway.url}/v1/jobs").status_code == 401
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="mt-wrong").models.list()
    assert httpx.get(f"{gateway.url}/v1/jobs", headers={"Host": "evil.example"}).status_code == 400


def test_a_stream_replays_and_ends(gateway: RunningGateway, database: Database) -> None:
    with database.session() as session:
        job = transitions.create(session, JobKind.COMPARE, "proj_default", {"arms": []})
        job_id = job.id
    with database.session() as session:
        transitions.request_cancel(session, transitions.locked(session, job_id))
    with gateway.http() as http:
        assert _ids(http, job_id, {}) == ["1", "2"]
        assert _ids(http, job_id, {"Last-Event-ID": "1"}) == ["2"]
        page = http.get(f"/v1/jobs/{job_id}/events").json()
        assert [event["sequence"] for event in page["data"]] == [1, 2]
        assert (
            http.get("/v1/jobs/cmp_nope/events", headers={"Accept": "text/event-stream"}).status_code == 404
        )


def test_a_stream_hears_of_news_at_once(gateway: RunningGateway, database: Database) -> None:
    with database.session() as session:
        job_id = transitions.create(session, JobKind.COMPARE, "proj_default", {"arms": []}).id
    with (
        gateway.http() as http,
        http.stream("GET", f"/v1/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}) as stream,
    ):
        lines = stream.iter_lines()
        assert next(line for line in lines if line.startswith("id:")) == "id: 1"
        with database.session() as session:
            transitions.request_cancel(session, transitions.locked(session, job_id))
        assert next(line for line in lines if line.startswith("id:")) == "id: 2"
        assert "event: end" in list(lines)


def _ids(http: httpx.Client, job_id: str, headers: dict[str, str]) -> list[str]:
    answer = http.get(f"/v1/jobs/{job_id}/events", headers={"Accept": "text/event-stream", **headers})
    assert answer.text.rstrip().endswith("event: end\ndata: {}")
    return [line.removeprefix("id: ") for line in answer.text.splitlines() if line.startswith("id:")]


def test_a_missing_neighbour_is_said(gateway: RunningGateway) -> None:
    with pytest.raises(openai.InternalServerError) as away:
        gateway.openai().chat.completions.create(
            model="gemma-3-270m", messages=[{"role": "user", "content": "Hi"}]
        )
    assert away.value.status_code == 503
    assert "mt status" in away.value.message
    with pytest.raises(openai.NotFoundError):
        gateway.openai().chat.completions.create(
            model="rag:docs@gemma-3-270m", messages=[{"role": "user", "content": "x"}]
        )
