"""The built wheel in an empty environment: the client works, and what must travel with the code did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

DATA = [
    "model_training/config/presets/demo.yaml",
    "model_training/config/templates/qa.jinja",
    "migrations/versions/0001_create_the_first_tables.py",
    "migrations/script.py.mako",
    "services/comparator/templates",
]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh virtual environment that holds the wheel and what the bare install needs."""
    directory = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    _run([*pip, "wheel", "--no-deps", "-w", str(directory), str(ROOT)])
    wheel = next(directory.glob("*.whl"))
    _run([sys.executable, "-m", "venv", str(directory / "venv")])
    python = directory / "venv" / "bin" / "python"
    _run([str(python), *pip[1:], "install", "-c", str(ROOT / "constraints.txt"), str(wheel)])
    return python


def _run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=cwd)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_command_line_works_without_machine_learning(python: Path, tmp_path: Path) -> None:
    mt = str(python.parent / "mt")
    assert "demo" in _run([mt, "config", "presets"], tmp_path)
    assert "gemma-3-270m" in _run([mt, "config", "models"], tmp_path)
    packages = _run([str(python), "-m", "pip", "list"], tmp_path)
    assert "torch" not in packages
    assert "fastapi" not in packages


def test_a_platform_that_is_not_installed_is_said(python: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(python.parent / "mt"), "up", "--home", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "model-training[embedded]" in done.stderr.replace("\n", "")
    assert "Traceback" not in done.stderr


def test_data_files_travel_with_the_code(python: Path, tmp_path: Path) -> None:
    site = Path(
        _run([str(python), "-c", "import migrations; print(migrations.__path__[0])"], tmp_path).strip()
    ).parent
    missing = [name for name in DATA if not (site / name).exists()]
    assert not missing
