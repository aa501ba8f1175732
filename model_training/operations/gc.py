"""Finds what nothing needs any more in a place, and takes it away. Rows go first, in one transaction; then the disk."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from model_training.operations.gc_rules import Found, Garbage, Job, Retention, Rows, as_text, garbage
from model_training.operations.place import Place, connect

DAY_S = 86_400.0
LOCK = 7_119_203_551
"""An advisory lock: one clean-up at a time."""

_FORGET_ARTIFACTS = """
    delete from artifacts a where sha256 = any(%s) and not exists (select 1 from models m where m.artifact = a.sha256)
"""
_JOBS = """
    select j.id, j.kind, extract(epoch from now() - j.finished_at) / 86400,
        j.spec, j.result, j.progress,
        (select jsonb_agg(to_jsonb(s)) from pipeline_steps s where s.pipeline_id = j.id),
        (select jsonb_agg(to_jsonb(r)) from sweep_runs r where r.sweep_id = j.id),
        coalesce(j.pipeline_id, (select r.sweep_id from sweep_runs r where r.job_id = j.id limit 1))
    from jobs j
"""


@dataclass(frozen=True)
class Cleaned:
    """What went, or would go. `bytes` by kind; `rows`: answers kept for Idempotency-Keys."""

    garbage: Garbage
    bytes: Mapping[str, int]
    rows: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return sum(self.bytes.values())


def clean(place: Place, retention: Retention, *, keys_days: float = 30.0, dry_run: bool = True) -> Cleaned:
    """Take away what nothing needs; with `dry_run` only say what that is.

    Args:
        keys_days: how long the answer to an Idempotency-Key is kept.
    """
    with connect(place) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", [LOCK])
        # What lies on the disk is listed before the rows are read: what appears in between is not in the list.
        found = look(place)
        gone = garbage(read(connection), found, retention)
        sizes = {kind: sum(_bytes(path) for path in paths) for kind, paths in _paths(place, gone).items()}
        old = "from idempotency_keys where created_at < now() - make_interval(secs => %s)"
        rows = connection.execute(f"select count(*) {old}", [keys_days * DAY_S]).fetchone()[0]
        if not dry_run:
            connection.execute(f"delete {old}", [keys_days * DAY_S])
            connection.execute(_FORGET_ARTIFACTS, [list(gone.artifacts)])
            connection.execute("delete from checkpoints where job_id = any(%s)", [list(gone.workdirs)])
            kept = _column(connection, "select sha256 from artifacts")
            gone = replace(gone, artifacts=tuple(one for one in gone.artifacts if one not in kept))
    if not dry_run:
        for kind, paths in _paths(place, gone).items():
            for path in paths:
                _remove(path, retention.fresh if kind in ("artifacts", "files") else 0.0)
    return Cleaned(gone, sizes, rows)


def read(connection: Any) -> Rows:
    """What the database holds."""
    jobs = [
        Job(id, kind, None if days is None else float(days), as_text(*texts), parent)
        for id, kind, days, *texts, parent in connection.execute(_JOBS).fetchall()
    ]
    models = dict(connection.execute("select id, artifact from models").fetchall())
    lineage = connection.execute("select lineage, gate, metrics from models").fetchall()
    return Rows(
        jobs=jobs,
        models=models,
        model_texts=as_text(*lineage),
        files=_column(connection, "select sha256 from files"),
        indexes=_column(connection, "select id from indexes"),
    )


def look(place: Place) -> Found:
    """What lies on the disk."""
    root, now = place.home.root, time.time()

    def ages(folder: Path | None) -> dict[str, float]:
        if folder is None or not folder.is_dir():
            return {}
        return {path.name: max(0.0, now - _changed(path)) / DAY_S for path in folder.iterdir()}

    def hashes(folder: Path | None) -> dict[str, float]:
        return {name: age for name, age in ages(folder).items() if not name.startswith(".")}

    return Found(
        artifacts=hashes(place.artifacts),
        files=ages(root / "files"),
        workdirs=hashes(root / "jobs"),
        indexes=hashes(root / "indexes"),
        snapshots=hashes(root / "snapshots"),
        logs={name.removesuffix(".log"): age for name, age in hashes(root / "logs" / "jobs").items()},
    )


def _paths(place: Place, gone: Garbage) -> dict[str, list[Path]]:
    root = place.home.root
    folders = {
        "artifacts": place.artifacts or root / "artifacts",
        "files": root / "files",
        "workdirs": root / "jobs",
        "indexes": root / "indexes",
        "snapshots": root / "snapshots",
        "logs": root / "logs" / "jobs",
    }
    ends = {"logs": ".log"}
    return {
        kind: [folders[kind] / f"{name}{ends.get(kind, '')}" for name in names]
        for kind, names in asdict(gone).items()
    }


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return time.time()


def _bytes(path: Path) -> int:
    paths = path.rglob("*") if path.is_dir() else [path]
    return sum(one.stat().st_size for one in paths if one.is_file())


def _remove(path: Path, fresh_days: float) -> None:
    """Take it out of its place first, and look at its age then: whoever stores the same content again in this moment
    either makes it young, and gets it back, or finds nothing, and writes it anew."""
    trash = path.with_name(f".gc-{path.name}")
    try:
        os.rename(path, trash)
    except FileNotFoundError:
        return
    if time.time() - _changed(trash) < fresh_days * DAY_S and not path.exists():
        os.rename(trash, path)
        return
    if trash.is_dir() and not trash.is_symlink():
        shutil.rmtree(trash, ignore_errors=True)
    else:
        trash.unlink(missing_ok=True)


def _column(connection: Any, query: str) -> frozenset[str]:
    return frozenset(row[0] for row in connection.execute(query).fetchall())
