"""What a job's result depends on, where no database has to be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libs.common.db.tables import JobRow
from libs.common.models.provenance import Source
from services.gateway.service.inputs import input_hash

BASE = "gemma-3-270m"


def digest(spec: dict[str, Any]) -> str | None:
    nothing: Any = None  # no id is in these specs
    return input_hash(nothing, JobRow(id="eval_1", project_id="p", kind="evaluate", spec=spec))


def prepare(directory: Path, **files: str) -> None:
    (directory / BASE).mkdir(exist_ok=True)
    source = Source("folder", "somewhere", "Gemma Terms of Use").with_files(files)
    source.write(directory / BASE)


def test_a_base_counts_as_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MT_MODEL_DIR", str(tmp_path))
    spec = {"model": BASE, "suites": [{"name": "s"}]}
    by_name = digest(spec)
    prepare(tmp_path, weights="sha256:a")
    first = digest(spec)
    prepare(tmp_path, weights="sha256:a")  # again, at another moment
    assert first == digest(spec) != by_name
    prepare(tmp_path, weights="sha256:b")
    assert digest(spec) not in (first, by_name, None)


def test_what_changes_nothing_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MT_MODEL_DIR", str(tmp_path))
    assert digest({"model": BASE, "metadata": {"a": "b"}}) == digest({"model": BASE})
    assert digest({"model": BASE, "seed": 1}) != digest({"model": BASE})


def test_a_record_that_cannot_be_read_pins_nothing_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MT_MODEL_DIR", str(tmp_path))
    prepare(tmp_path)
    (tmp_path / BASE / "source.json").write_text("{", encoding="utf-8")
    assert digest({"model": BASE}) is None
