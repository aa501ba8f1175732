"""Whose key is used: this machine's own at this machine only, otherwise that of whoever logs in."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.dashboard.gateway import Gateway
from services.dashboard.sessions import Sessions
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


def test_each_browser_has_its_own_key_and_one_connection_a_key() -> None:
    sessions = Sessions(Gateway("http://127.0.0.1:1"), None)
    assert sessions.needs_login
    assert sessions.connection("a") is None
    sessions.log_in("a", "mt-1")
    sessions.log_in("b", "mt-1")
    sessions.log_in("c", "mt-2")
    assert sessions.connection("a") is sessions.connection("b") is not sessions.connection("c")
    shared = sessions.connection("b")
    sessions.log_out("a")
    assert sessions.connection("a") is None
    assert sessions.connection("b") is shared


def test_a_login_does_not_last_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(Gateway("http://127.0.0.1:1"), None)
    sessions.log_in("a", "mt-1")
    monkeypatch.setattr("services.dashboard.sessions.LASTS_S", -1.0)
    assert sessions.connection("a") is None
