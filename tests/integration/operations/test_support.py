"""The support bundle: what helps is in it, and no secret, wherever one was planted."""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from libs.common.db.engine import Database
from libs.common.jobs import transitions
from model_training.contracts.jobs import JobKind
from model_training.errors import UserError
from model_training.home import Home, write_private
from model_training.operations.place import Place
from model_training.operations.support import LOG_BYTES, Redactor, write_bundle
from tests.conftest import Stores

ENVIRONMENT = {
    "MT_KEY_PEPPER": "planted-pepper-1234567890",
    "MT_BROKER_URL": "redis://:planted-broker-password@127.0.0.1:6379/0",
    "MT_ALERT_URLS": '["slack://planted-slack-a/planted-slack-b/planted-slack-c"]',
    "MT_GATEWAY_URL": "http://127.0.0.1:8123",
    "MT_LEASE_S": "30",
    "HF_TOKEN": "hf_plantedplantedplantedplanted",
    "AWS_SECRET_ACCESS_KEY": "planted/aws+secret/key",
    "UNRELATED": "not-shown-at-all",
}
LOG = """{"message": "asked with Bearer planted-bearer-token-123456"}
{"message": "key mt-plantedplantedplantedplantedplantedplanted12 and sk-plantedplantedplanted12"}
{"message": "connect redis://:planted-broker-password@127.0.0.1:6379/0 and https://user:planted-url-pass@example.com/x"}
{"message": "planted-slack-b and eyJplantedplanted.eyJplantedplanted.plantedsignature"}
{"message": "what happened, happened"}
"""


@dataclass(frozen=True)
class Bundle:
    """The members' texts by name, and where it lies."""

    path: Path
    members: dict[str, str]


@pytest.fixture(scope="module")
def bundle(stores: Stores, database: Database) -> Iterator[Bundle]:
    with tempfile.TemporaryDirectory(prefix="mt-support-") as name:
        home = Home(Path(name) / "home")
        home.create()
        secrets = home.secrets()
        home.api_key()
        log = LOG + f'{{"message": "{secrets.internal_token} {home.api_key()} {secrets.broker_password}"}}\n'
        home.log("gateway").write_text("x" * LOG_BYTES + log, encoding="utf-8")
        write_private(
            home.root / "alerts.yaml",
            "channels: [{name: hook, urls: ['json://u:planted-hook@host/planted-path']}]",
        )
        with database.session() as session:
            spec = {"model": "planted-model-name"}
            job = transitions.create(session, JobKind.COMPARE, "proj_default", spec)
            transitions.request_cancel(session, transitions.locked(session, job.id))
        place = Place(home, stores.settings.database_url, "t" * 40)
        path = Path(name) / "bundle.tar.gz"
        write_bundle(home, path, place, environment=ENVIRONMENT)
        with tarfile.open(path) as archive:
            members = {
                member.name.removeprefix("support/"): (archive.extractfile(member) or b"").read().decode()  # type: ignore[union-attr]
                for member in archive
            }
        assert not [
            value
            for value in (secrets.key_pepper, secrets.internal_token, home.api_key())
            if value in str(members)
        ]
        yield Bundle(path, members)


def test_no_secret_is_in_it(bundle: Bundle) -> None:
    for name, text in bundle.members.items():
        assert "planted" not in text, f"{name}: {text[max(0, text.index('planted') - 60) :][:120]}"
        assert "not-shown-at-all" not in text


def test_what_helps_is_in_it(bundle: Bundle) -> None:
    assert {"checks.json", "packages.txt", "settings.json", "database.json", "logs/gateway.log"} <= set(
        bundle.members
    )
    assert "what happened, happened" in bundle.members["logs/gateway.log"]
    assert json.loads(bundle.members["settings.json"])["MT_LEASE_S"] == "30"
    found = json.loads(bundle.members["database.json"])
    assert found["revision"] >= "0009"
    assert ["compare", "cancelled"] in [row[:2] for row in found["jobs"]]
    assert "fastapi" in bundle.members["packages.txt"]


def test_it_is_private_and_overwrites_nothing(bundle: Bundle) -> None:
    assert bundle.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UserError, match="there already"):
        write_bundle(Home(bundle.path.parent / "home"), bundle.path, None, environment={})


@pytest.mark.parametrize(
    "secret",
    [
        "mt-" + "a" * 43,
        "Bearer abcdefgh12345678",
        "authorization: basic YWRtaW46YWRtaW4=",
        "sk-abcdefghijklmnop1234",
        "ghp_abcdefghijklmnop1234",
        "postgresql://user:pass@host/db",
        "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_taken_out(secret: str) -> None:
    shown = Redactor(())(f"before {secret} after")
    assert "[removed]" in shown
    assert secret not in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")
