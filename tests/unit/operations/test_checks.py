"""What `mt doctor` finds on machines that are well and on those that are not."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from model_training.home import Home
from model_training.operations import checks
from model_training.operations.checks import all_checks


def _of(home: Path, name: str, port_base: int = 8000) -> checks.Check:
    return next(check for check in all_checks(Home(home), port_base) if check.name == name)


def test_everything_is_looked_at(tmp_path: Path) -> None:
    names = [check.name for check in all_checks(Home(tmp_path))]
    assert names == ["python", "host", "memory", "disk", "gpu", "ports", "stores", "secrets", "versions"]


def test_a_port_of_another_program_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = _of(tmp_path, "ports", port)
    assert found.state == "note"
    assert str(port) in found.text
    assert "--port-base" in found.hint


def test_secrets_that_others_may_read_are_bad(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.secrets()
    assert _of(tmp_path, "secrets").state == "ok"
    (tmp_path / "secrets.json").chmod(0o644)
    found = _of(tmp_path, "secrets")
    assert (found.state, "chmod 600" in found.hint) == ("bad", True)


def test_a_full_disk_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: checks.shutil._ntuple_diskusage(10, 9, 1))
    found = _of(tmp_path, "disk")
    assert (found.state, "mt gc" in found.hint) == ("bad", True)


def test_a_driver_that_does_not_work_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = _of(tmp_path, "gpu")
    assert (found.state, "mismatch" in found.text) == ("note", True)


def test_a_card_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 580.1, 143771 MiB'\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert "NVIDIA H200" in _of(tmp_path, "gpu").text
