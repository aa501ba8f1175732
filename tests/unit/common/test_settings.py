"""Where the platform's settings come from: what is given, the environment, then files of the secrets' folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from libs.common.settings import PlatformSettings, host_of

TOKEN = "t" * 40


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MT_DATABASE_URL", "MT_BROKER_URL", "MT_INTERNAL_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MT_SECRETS_DIR", str(tmp_path))
    (tmp_path / "mt_database_url").write_text("postgresql+psycopg://db/mt\n", encoding="utf-8")
    (tmp_path / "mt_broker_url").write_text("redis://broker/0", encoding="utf-8")
    (tmp_path / "mt_internal_token").write_text(f"{TOKEN}\n", encoding="utf-8")
    return tmp_path


def read() -> PlatformSettings:
    return PlatformSettings()  # pyright: ignore[reportCallIssue]


def test_secrets_are_read_from_files_without_their_line_end(secrets: Path) -> None:
    settings = read()
    assert settings.database_url == "postgresql+psycopg://db/mt"
    assert settings.internal_token.get_secret_value() == TOKEN
    assert TOKEN not in repr(settings)


def test_the_environment_goes_before_a_file(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MT_BROKER_URL", "redis://other/1")
    assert read().broker_url == "redis://other/1"


def test_a_folder_that_is_not_there_is_no_fault_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MT_SECRETS_DIR", "/nowhere")
    monkeypatch.delenv("MT_DATABASE_URL", raising=False)
    with pytest.raises(ValidationError, match="database_url"):
        read()


def test_an_empty_variable_counts_as_not_set(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MT_BROKER_URL", "")
    monkeypatch.setenv("MT_ARTIFACTS_URL", "")
    assert read().broker_url == "redis://broker/0"
    assert read().artifacts_url is None


def test_a_service_binds_to_its_own_name_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MT_BIND_HOST", raising=False)
    assert host_of("http://gateway:8000") == "gateway"
    monkeypatch.setenv("MT_BIND_HOST", "0.0.0.0")
    assert host_of("http://gateway:8000") == "0.0.0.0"
