"""Where a value of the configuration comes from, which origin wins, and what a reader does without a database."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.db.engine import Database
from libs.common.runtime_config import SECTIONS, JobDefaults, Limits, RuntimeConfig, inherited

NOWHERE = "postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=1"


def write(home: Path, content: str) -> Path:
    (home / "config.yaml").write_text(content, encoding="utf-8")
    return home


def test_every_value_has_a_default_and_a_description() -> None:
    for kind in SECTIONS.values():
        kind()
        assert all(field.description for field in kind.model_fields.values()), kind


@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize("in_environment", [True, False])
def test_the_environment_wins_over_the_file_and_both_over_the_default(
    tmp_path: Path, in_file: bool, in_environment: bool
) -> None:
    home = write(tmp_path, "limits: {burst: 11}\n") if in_file else tmp_path
    found = inherited(Limits, home, {"MT_LIMITS_BURST": "22"} if in_environment else {})["burst"]
    expected = (22, "environment") if in_environment else (11, "file") if in_file else (2000, "default")
    assert (found.value, found.origin) == expected


@given(st.integers(1, 100))
def test_a_number_in_the_environment_is_a_number(value: int) -> None:
    found = inherited(JobDefaults, Path("/nonexistent"), {"MT_JOBS_MAX_ATTEMPTS": str(value)})
    assert found["max_attempts"].value == value


@pytest.mark.parametrize(
    ("file", "environment", "says"),
    [
        ("limits: {burst: 0}\n", {}, "limits.burst"),
        ("limits: {bursts: 1}\n", {}, "limits.bursts"),
        ("limits: 7\n", {}, "limits must be"),
        ("- limits\n", {}, "limits must be"),
        ("", {"MT_LIMITS_BURST": "many"}, "limits.burst"),
        ("", {"MT_LIMITS_REQUESTS_PER_S": ".inf"}, "limits.requests_per_s"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, file: str, environment: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        inherited(Limits, write(tmp_path, file), environment)


def test_without_a_database_the_inherited_values_are_in_force(tmp_path: Path) -> None:
    config = RuntimeConfig(Database(NOWHERE), tmp_path, {"MT_LIMITS_BURST": "33"})
    assert config.read(Limits).burst == 33
    assert config.fresh(Limits) is config.read(Limits)
