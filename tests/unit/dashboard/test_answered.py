"""What the playground's arms said outlives the process; what had not ended is asked again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from services.dashboard import answered
from services.dashboard.answered import Answered
from services.dashboard.answering import ArmAnswer, Kept, Run, Runs
from services.dashboard.gateway import Gateway

KEPT = Kept(
    question="What does chunked do?",
    arms=[
        ArmAnswer("base", state="done", text="It breaks lists.", total_s=1.5, sources=[{"number": 1}]),
        ArmAnswer("tuned", state="writing", text="It bre"),
    ],
    max_tokens=64,
    temperature=0.5,
    vote="base",
)


def found(folder: Path, key: str, name: str = "run-1") -> Run | None:
    """As a new process finds it, with a gateway that is away."""

    async def look() -> Run | None:
        gateway = Gateway("http://127.0.0.1:1")
        run = Runs(Answered(folder)).get(gateway.connect(key), name)
        gateway.close()
        return run

    return asyncio.run(look())


def kept(folder: Path, name: str = "run-1") -> None:
    owner = Gateway("http://127.0.0.1:1").connect("mt-1").id
    Answered(folder).save(owner, name, KEPT.model_dump_json())


def test_another_process_finds_the_answers_and_asks_what_had_not_ended(tmp_path: Path) -> None:
    kept(tmp_path)
    run = found(tmp_path, "mt-1")
    assert run is not None
    assert (run.question, run.max_tokens, run.temperature, run.vote) == (KEPT.question, 64, 0.5, "base")
    assert run.arms[0] == KEPT.arms[0]
    assert not run.arms[1].is_over
    assert found(tmp_path, "mt-2") is None, "another key's"


@pytest.mark.parametrize("name", ["../run-1", "", "run-2", "a" * 65])
def test_a_made_up_name_finds_nothing(tmp_path: Path, name: str) -> None:
    kept(tmp_path)
    assert found(tmp_path, "mt-1", name) is None


def test_the_newest_are_kept_for_the_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answered, "KEPT", 3)
    folder = tmp_path / "answers"
    for number in range(5):
        kept(folder, f"run-{number}")
    names = {path.name.split(".")[1] for path in folder.glob("*.json")}
    assert len(names) == 3
    assert "run-4" in names
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


def test_where_nothing_can_be_kept_answers_are_still_given(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    store = Answered(tmp_path / "file")
    store.save("owner", "run", "{}")
    assert store.load("owner", "run") is None


def test_a_file_of_another_version_is_as_none(tmp_path: Path) -> None:
    owner = Gateway("http://127.0.0.1:1").connect("mt-1").id
    Answered(tmp_path).save(owner, "run-1", json.dumps({"version": 9}))
    assert found(tmp_path, "mt-1") is None
