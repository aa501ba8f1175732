"""Secrets and prompts: planted, used in many requests, and looked for wherever anything is kept."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from libs.common.db.engine import Database
from libs.common.runtime_config import LiveSampling
from libs.common.settings import PlatformSettings
from tests.conftest import Stores
from tests.integration.gateway.conftest import RunningGateway, running_gateway
from tests.integration.security.conftest import CHUNK, standing_in_for

BOOTSTRAP = "mt-" + "PLANTEDbootstrapKey" + "b" * 24
PEPPER = "PLANTED-pepper-" + "p" * 30
HOOK = "PLANTED-webhook-password"
PROMPT = "PLANTED-prompt-of-a-person"
ANSWER = "PLANTED-answer-of-a-model"
PLANTED = (BOOTSTRAP, PEPPER, HOOK, PROMPT, ANSWER)
REPLY = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "gemma-3-270m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER}}],
}  # fmt: skip


@pytest.fixture(scope="module")
def planted(stores: Stores, database: Database) -> Iterator[tuple[RunningGateway, list[str]]]:
    """A gateway whose secrets are marked, after a run of requests of every kind; with what it answered."""
    environment = {
        "MT_BOOTSTRAP_API_KEY": BOOTSTRAP,
        "MT_KEY_PEPPER": PEPPER,
        "MT_ALERT_URLS": json.dumps([f"json://user:{HOOK}@hooks.example.com"]),
    }
    with running_gateway(stores, environment) as gateway:
        yield gateway, _use(gateway)


def _use(gateway: RunningGateway) -> list[str]:
    chat = {"model": "gemma-3-270m", "messages": [{"role": "user", "content": PROMPT}]}
    said: list[str] = []
    with gateway.http(BOOTSTRAP) as http:
        said += [
            http.get(path).text
            for path in ("/v1/jobs", "/v1/config", "/v1/audit", "/openapi.json", "/metrics")
        ]
        made = http.post("/v1/api_keys", json={"name": "x", "scopes": ["read"]}).json()
        said.append(http.get("/v1/api_keys").text)
        sent = http.post("/v1/files", files={"file": ("c.jsonl", CHUNK)}, data={"purpose": "chunks"})
        said += [
            sent.text,
            http.post("/v1/indexes", json={"name": "planted", "files": [sent.json()["id"]]}).text,
        ]
        said += [http.post("/v1/indexes", json={"name": 7}).text, http.get("/v1/jobs/nope").text]
        said.append(http.post("/v1/chat/completions", json=chat).text)  # nobody answers: an error is logged
        with standing_in_for(_Where(gateway), "INFERENCE", json.dumps(REPLY)):  # pyright: ignore[reportArgumentType]
            answered = http.post("/v1/chat/completions", json=chat, headers={"Idempotency-Key": "planted"})
            assert ANSWER in answered.text
        said.append(http.delete(f"/v1/api_keys/{made['id']}").text)
    with gateway.http(BOOTSTRAP[:-1] + "x") as http:
        said.append(http.get("/v1/jobs").text)
    return said


class _Where:
    """What `standing_in_for` needs of a world."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.gateway = gateway


def test_no_answer_tells_a_secret(planted: tuple[RunningGateway, list[str]]) -> None:
    assert not [secret for secret in PLANTED if any(secret in answer for answer in planted[1])]


def test_no_log_holds_a_secret_or_a_prompt(planted: tuple[RunningGateway, list[str]]) -> None:
    log = planted[0].log.read_text(encoding="utf-8")
    assert "unavailable" in log or len(log) > 100, "something was logged, down to DEBUG"
    assert not [secret for secret in PLANTED if secret in log]


def test_the_database_holds_no_secret_and_no_prompt(
    planted: tuple[RunningGateway, list[str]], database: Database
) -> None:
    """Every row of every table, as text: keys are there as their HMACs only, conversations not at all."""
    with database.session() as session:
        names = session.scalars(text("select tablename from pg_tables where schemaname = 'public'")).all()
        assert {"api_keys", "jobs", "job_events", "idempotency_keys", "audit_log"} <= set(names)
        for name in names:
            found = session.scalars(
                text(f'select t::text from "{name}" t where t::text like :mark limit 3'),
                {"mark": "%PLANTED%"},
            ).all()
            assert found == [], f"{name}: {found}"


def test_no_file_of_the_data_directory_holds_a_secret_or_a_prompt(
    planted: tuple[RunningGateway, list[str]], stores: Stores
) -> None:
    """Artifacts, files, snapshots, metrics and the broker's own file; PostgreSQL's are looked at through SQL."""
    for path in stores.home.rglob("*"):
        if path.is_file() and "postgres" not in path.relative_to(stores.home).parts:
            assert not [secret for secret in PLANTED if secret.encode() in _content(path)], path


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def test_texts_are_kept_only_where_somebody_has_said_so(planted: tuple[RunningGateway, list[str]]) -> None:
    """Neither by default nor because a client asks for it."""
    assert (LiveSampling().share, LiveSampling().keep_text) == (0.0, False)
    chat = {"model": "gemma-3-270m", "messages": [{"role": "user", "content": PROMPT}]}
    where, headers = _Where(planted[0]), list[dict[str, str]]()
    with (
        standing_in_for(where, "INFERENCE", json.dumps(REPLY), seen=headers),
        planted[0].http(BOOTSTRAP) as http,
    ):  # pyright: ignore[reportArgumentType]
        assert (
            http.post("/v1/chat/completions", json=chat, headers={"X-MT-Sample": "text"}).status_code == 200
        )
    assert [one.get("x-mt-sample") for one in headers] == [None]


def test_settings_show_no_secret_when_they_are_printed(stores: Stores) -> None:
    shown = repr(stores.settings) + str(stores.settings) + stores.settings.model_dump_json()
    assert stores.settings.internal_token.get_secret_value() not in shown


def test_every_setting_that_is_a_secret_is_declared_as_one() -> None:
    from services.gateway.settings import GatewaySettings

    named = {
        name: field
        for kind in (PlatformSettings, GatewaySettings)
        for name, field in kind.model_fields.items()
        if any(part in name for part in ("key", "token", "secret", "password", "pepper"))
    }
    assert named
    assert all("SecretStr" in str(field.annotation) for field in named.values())
