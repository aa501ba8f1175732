"""Whose key is used: this machine's own at this machine only, otherwise that of whoever logs in."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.dashboard.gateway import Gateway
from services.dashboard.sessions import Sessions, kept_secret
from services.dashboard.settings import DashboardSettings

OWN = "mt-own"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "api_key").write_text(f"{OWN}\n", encoding="utf-8")
    for name in ("MT_BIND_HOST", "MT_DASHBOARD_API_KEY", "MT_DASHBOARD_LOGIN", "MT_DASHBOARD_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_machines_own_key_is_for_the_machine_itself(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert DashboardSettings(home=home).shared_key() == OWN
    assert DashboardSettings(home=home, dashboard_url="http://0.0.0.0:8008").shared_key() is None
    monkeypatch.setenv("MT_BIND_HOST", "0.0.0.0")
    assert DashboardSettings(home=home).shared_key() is None


def test_a_login_can_be_asked_for_and_a_key_be_given(home: Path) -> None:
    assert DashboardSettings(home=home, dashboard_login=True).shared_key() is None
    given = DashboardSettings(home=home, dashboard_api_key="mt-given", dashboard_url="http://0.0.0.0:8008")
    assert given.shared_key() == "mt-given"
    assert "mt-given" not in repr(given)
    assert DashboardSettings(home=home / "none").shared_key() is None


@pytest.fixture
def sessions() -> Sessions:
    return Sessions(Gateway("http://127.0.0.1:1"), None, "secret")


def sealed(sessions: Sessions, browser: str, key: str) -> str:
    found = sessions.redeem(browser, sessions.ticket(browser, key))
    assert found is not None
    return found


def test_each_browser_brings_its_own_key_and_there_is_one_connection_a_key(sessions: Sessions) -> None:
    assert sessions.needs_login
    assert sessions.connection(None) is None
    assert sessions.connection("made up") is None
    a, b, c = (sealed(sessions, name, key) for name, key in (("a", "mt-1"), ("b", "mt-1"), ("c", "mt-2")))
    assert "mt-1" not in a
    assert a != b
    assert sessions.connection(a) is sessions.connection(b) is not sessions.connection(c)


def test_a_login_outlives_the_process_and_is_read_with_its_secret_only(sessions: Sessions) -> None:
    cookie = sealed(sessions, "a", "mt-1")
    gateway = Gateway("http://127.0.0.1:1")
    assert Sessions(gateway, None, "secret").connection(cookie) is gateway.connect("mt-1")
    assert Sessions(gateway, None, "another").connection(cookie) is None


def test_a_ticket_is_for_one_browser_once_and_soon(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = sessions.ticket("a", "mt-1")
    assert sessions.redeem("b", ticket) is None
    assert sessions.redeem("a", ticket) is None, "whoever tried it has spoilt it"
    ticket = sessions.ticket("a", "mt-1")
    assert sessions.redeem("a", ticket)
    assert sessions.redeem("a", ticket) is None
    monkeypatch.setattr("services.dashboard.sessions.TICKET_S", -1.0)
    assert sessions.redeem("a", sessions.ticket("a", "mt-1")) is None


def test_a_login_does_not_last_for_ever(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = sealed(sessions, "a", "mt-1")
    monkeypatch.setattr("services.dashboard.sessions.LASTS_S", -100)
    assert sessions.connection(cookie) is None


def test_the_secret_is_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "dashboard"
    made = kept_secret(folder)
    assert kept_secret(folder) == made
    assert (folder / "secret").stat().st_mode & 0o077 == 0
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert kept_secret(tmp_path / "file") != kept_secret(tmp_path / "file"), (
        "nothing can be kept below a file"
    )
