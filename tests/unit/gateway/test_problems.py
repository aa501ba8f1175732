"""How errors look to a client."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from fastapi import Body, FastAPI
from pydantic import Field
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.testclient import TestClient

from libs.common import problems
from libs.common.errors import RateLimited
from model_training.contracts.base import WHOLE, Name, Wire
from services.gateway.service.files import FileService


class Inner(Wire):
    name: Name
    count: Literal["auto"] | Annotated[int, Field(ge=1), WHOLE] = "auto"


class Outer(Wire):
    query: str = "x"
    inner: list[Inner] = Field(default=[])
    anything: dict[str, Any] = Field(default={})


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    problems.install(app)

    @app.post("/v1/files")
    def take(body: Annotated[Outer, Body()]) -> Outer:
        return body

    @app.get("/v1/{kind}")
    def fail(kind: str) -> None:
        raise {
            "database": OperationalError("select 1", {}, Exception("gone")),
            "pool": PoolTimeout("all taken"),
            "rate": RateLimited("Too fast.", retry_after_s=0.2),
            "bug": KeyError("a secret of ours"),
        }[kind]

    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": 1}, "query"),
        ({"inner": [{"name": "a", "count": 0}]}, "inner.0.count"),
        ({"inner": [{"name": "a", "count": "5"}]}, "inner.0.count"),
        ({"inner": [{"name": "a\u202eb"}]}, "inner.0.name"),
        ({"anything": {"a": [{"b": "\x00"}]}}, "anything.a.0.b"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_shape_that_is_wrong_names_the_field(client: TestClient, body: dict[str, Any], param: str) -> None:
    answer = client.post("/v1/files", json=body)
    assert (answer.status_code, answer.json()["param"]) == (422, param)
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("count", [5, 5.0])
def test_a_whole_number_is_whole_however_it_is_written(client: TestClient, count: float) -> None:
    assert client.post("/v1/files", json={"inner": [{"name": "a", "count": count}]}).status_code == 200


@pytest.mark.parametrize(
    ("kind", "status", "retry_after"),
    [("database", 503, "1"), ("pool", 503, "1"), ("rate", 429, "1"), ("bug", 500, None)],
)
def test_whose_fault_it_is_and_when_to_ask_again(
    client: TestClient, kind: str, status: int, retry_after: str | None
) -> None:
    answer = client.get(f"/v1/{kind}")
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
    assert "secret" not in answer.text


def test_what_killed_uploads_left_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    old, new, kept = (tmp_path / "files" / name for name in (".upload-old", ".upload-new", "0" * 64))
    for path in (old, new, kept):
        path.touch()
    for path in (old, kept):
        os.utime(path, (time.time() - 100_000,) * 2)
    FileService(tmp_path, 1).sweep()
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == [".upload-new", "0" * 64]
