"""Clean-up of a real data directory and database: what goes, what stays, and that a dry run touches nothing."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from libs.common.artifacts import ArtifactStore
from libs.common.db.engine import Database
from libs.common.db.tables import (
    ArtifactRow,
    CheckpointRow,
    FileRow,
    IdempotencyRow,
    JobRow,
    ModelRow,
    ProjectRow,
)
from libs.common.jobs import transitions
from model_training.contracts.jobs import JobKind
from model_training.home import Home
from model_training.operations.gc import clean
from model_training.operations.gc_rules import Retention
from model_training.operations.place import Place
from tests.conftest import Stores, scratch_database

OLD_S = 100 * 86_400
RETENTION = Retention()
OWNER = {"project_id": "proj_default"}
FILE = {
    **OWNER,
    "id": "file_1",
    "filename": "f",
    "purpose": "chunks",
    "bytes": 1,
    "sha256": "a" * 64,
    "report": {},
}
REPLY = {**OWNER, "key": "k", "route": "r", "body_sha256": "b", "status": 200, "response": {}}


@dataclass(frozen=True)
class Cellar:
    """A place with things that are needed and things that are not."""

    place: Place
    store: ArtifactStore
    kept: str
    loose: str
    ended: str
    open: str


@pytest.fixture
def cellar(stores: Stores) -> Iterator[Cellar]:
    with (
        tempfile.TemporaryDirectory(prefix="mt-gc-") as name,
        scratch_database(stores.settings.database_url) as url,
    ):
        home = Home(Path(name))
        place = Place(home, url, "t" * 40, artifacts=home.root / "artifacts")
        store, database = ArtifactStore(home.root / "artifacts"), Database(url)
        kept, loose = (_artifact(store, home, word) for word in ("kept", "loose"))
        with database.session() as session:
            session.add(ProjectRow(id="proj_default", name="default"))
            session.flush()
            ended, waiting = (
                transitions.create(session, JobKind.TRAIN, "proj_default", {"n": n}).id for n in range(2)
            )
            row = session.get_one(JobRow, ended)
            row.state, row.finished_at = "failed", row.created_at.replace(year=2020)
            session.add_all(
                [ArtifactRow(sha256=one, kind="adapter", bytes=1, job_id=ended) for one in (kept, loose)]
            )
            session.flush()
            session.add(
                ModelRow(id="model_1", project_id="proj_default", base="b", artifact=kept, state="pending")
            )
            session.add(FileRow(**FILE))
            session.add(CheckpointRow(id="ckpt_1", job_id=ended, step=1, path="x", metrics={}))
            session.add(IdempotencyRow(**REPLY, created_at=row.finished_at))
        for path in ("files/" + "a" * 64, "files/" + "b" * 64, "files/.upload-1", f"jobs/{ended}/c", f"jobs/{waiting}/c",
                     "indexes/idx_gone/x", f"logs/jobs/{ended}.log"):  # fmt: skip
            (home.root / path).parent.mkdir(parents=True, exist_ok=True)
            (home.root / path).write_text("0123456789", encoding="utf-8")
        _age(home.root)
        yield Cellar(place, store, kept, loose, ended, waiting)
        database.close()


def _artifact(store: ArtifactStore, home: Home, word: str) -> str:
    folder = home.root / "work" / word
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(word, encoding="utf-8")
    return store.commit(folder)


def _age(root: Path) -> None:
    past = time.time() - OLD_S
    for path in (*root.rglob("*"), root):
        os.utime(path, (past, past))


def _all(cellar: Cellar) -> set[str]:
    root = cellar.place.home.root
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_a_dry_run_touches_nothing_and_says_what_the_real_one_does(cellar: Cellar) -> None:
    before = _all(cellar)
    said = clean(cellar.place, RETENTION)
    assert _all(cellar) == before
    done = clean(cellar.place, RETENTION, dry_run=False)
    assert done == said
    assert done.total_bytes == 5 + 10 + 10 + 10 + 10 + 10
    assert done.rows == 1
    gone = before - _all(cellar)
    assert gone == {
        f"artifacts/{cellar.loose}/adapter_config.json",
        "files/" + "b" * 64,
        "files/.upload-1",
        f"jobs/{cellar.ended}/c",
        "indexes/idx_gone/x",
        f"logs/jobs/{cellar.ended}.log",
    }
    assert not any(vars(clean(cellar.place, RETENTION).garbage).values()), "nothing is left to do"


def test_what_is_stored_again_meanwhile_stays(cellar: Cellar, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same adapter is brought in between the look at the rows and the removal."""
    from model_training.operations import gc

    plain = gc._remove

    def after_somebody_else(path: Path, fresh_days: float) -> None:
        if path.name == cellar.loose:
            cellar.store.commit(cellar.place.home.root / "work" / "loose")
        plain(path, fresh_days)

    monkeypatch.setattr(gc, "_remove", after_somebody_else)
    clean(cellar.place, RETENTION, dry_run=False)
    assert (cellar.store.path(cellar.loose) / "adapter_config.json").read_text(encoding="utf-8") == "loose"
