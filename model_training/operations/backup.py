"""Writes a platform into one file, while it runs: database, uploaded files, artifacts, indexes, checkpoints, settings.

The database is read in one transaction, so that every row fits every other. Files and artifacts lie under their hash and
never change; each that the rows name is taken. Indexes are taken as snapshots that any vector store reads. The list of
everything with its SHA-256 is the archive's last member, so a file without it is no backup.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import httpx

from model_training.errors import UserError
from model_training.operations import tables
from model_training.operations.place import Place, connect

MANIFEST = "manifest.json"
FORMAT = 1
STANDARD = Path("-")
"""In place of a file: standard output, or input."""
OFFLINE = "libs.common.artifacts_offline"
SECRETS = ("secrets.json", "api_key")
SETTINGS = ("config.yaml", "alerts.yaml")
SNAPSHOT_S = 600.0


@dataclass(frozen=True)
class Summary:
    """What a backup holds, or what a restore put back. `missing`: named by a row, and not on the disk."""

    path: Path
    created_at: str
    revision: str
    tables: dict[str, int]
    files: int
    artifacts: int
    indexes: int
    bytes: int
    has_secrets: bool
    missing: tuple[str, ...] = ()


def backup(place: Place, target: Path, *, secrets: bool = True, artifacts: bool = True) -> Summary:
    """Write the backup; it appears under its name when it is complete, readable by its owner only.

    Args:
        artifacts: take models and reports too; a bucket with versions of its own may keep them itself.

    Raises:
        UserError: the database does not answer or is empty, an index cannot be read, or the target exists.
    """
    if target.exists():
        raise UserError(f"{target} is there already.", hint="Name another file.")
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            made = write_to(place, file, secrets=secrets, artifacts=artifacts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
    return replace(made, path=target, bytes=target.stat().st_size)


def write_to(place: Place, stream: IO[bytes], *, secrets: bool = True, artifacts: bool = True) -> Summary:
    """Write the backup into a stream that need not be seekable; only a whole one can be restored.

    Raises:
        UserError: as `backup`.
    """
    with (
        tempfile.TemporaryDirectory(prefix="mt-backup-") as work,
        tarfile.open(fileobj=stream, mode="w|") as archive,
    ):
        writer = _Writer(archive, place, Path(work))
        manifest = writer.write(with_secrets=secrets, with_artifacts=artifacts)
    return summary(STANDARD, manifest)


def summary(path: Path, manifest: dict[str, Any]) -> Summary:
    """A manifest in numbers."""
    members = manifest["members"]
    return Summary(
        path=path,
        created_at=manifest["created_at"],
        revision=manifest["revision"],
        tables={table["name"]: table["rows"] for table in manifest["tables"]},
        files=sum(name.startswith("files/") for name in members),
        artifacts=len({name.split("/")[1] for name in members if name.startswith("artifacts/")}),
        indexes=sum(name.startswith("indexes/") for name in members),
        bytes=path.stat().st_size if path.exists() else 0,
        has_secrets=SECRETS[0] in {name.removeprefix("settings/") for name in members},
        missing=tuple(manifest["missing"]),
    )


class _Writer:
    """One backup under way."""

    def __init__(self, archive: tarfile.TarFile, place: Place, work: Path) -> None:
        self._archive, self._place, self._work = archive, place, work
        self._members: dict[str, dict[str, Any]] = {}
        self._missing: list[str] = []

    def write(self, *, with_secrets: bool, with_artifacts: bool) -> dict[str, Any]:
        connection = connect(self._place)
        with connection:
            connection.execute("set transaction isolation level repeatable read, read only")
            at = tables.revision(connection)
            if at is None:
                raise UserError(
                    "The database is empty: there is nothing to back up.", hint="`mt up` makes one."
                )
            content = [self._table(connection, name) for name in tables.names(connection)]
            named = _Named.read(connection)
        self._trees(named if with_artifacts else replace(named, artifacts=[]))
        self._indexes(named)
        for name in (*SETTINGS, *(SECRETS if with_secrets else ())):
            self._add(self._place.home.root / name, f"settings/{name}", must_be=False)
        manifest = {
            "format": FORMAT,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "revision": at,
            "home": str(self._place.home.root),
            "tables": [asdict(table) for table in content],
            "members": self._members,
            "missing": self._missing,
        }
        path = self._work / MANIFEST
        path.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        self._archive.add(path, arcname=MANIFEST, filter=_plain)
        return manifest

    def _table(self, connection: Any, name: str) -> tables.Table:
        path = self._work / f"{name}.gz"
        table = tables.copy_out(connection, name, path)
        self._add(path, f"database/{name}.gz")
        path.unlink()
        return table

    def _trees(self, named: _Named) -> None:
        root = self._place.home.root
        for sha256 in named.files:
            self._add(root / "files" / sha256, f"files/{sha256}")
        if self._place.artifacts is None and named.artifacts:
            self._place.run(OFFLINE, ["fetch", *named.artifacts])
        for artifact in named.artifacts:
            self._tree((self._place.artifacts or root / "artifacts") / artifact, f"artifacts/{artifact}")
        for path in named.checkpoints:
            inside = Path(path)
            if inside.is_relative_to(root):
                self._tree(inside, f"checkpoints/{inside.relative_to(root).as_posix()}")

    def _indexes(self, named: _Named) -> None:
        for index in named.indexes:
            snapshot = _snapshot(self._place, index)
            if snapshot is None:
                self._missing.append(f"indexes/{index}")
                continue
            self._add(snapshot, f"indexes/{index}.tar")
            snapshot.unlink()

    def _tree(self, directory: Path, name: str) -> None:
        if not directory.is_dir():
            self._missing.append(name)
            return
        for path in _files(directory):
            self._add(path, f"{name}/{path.relative_to(directory).as_posix()}")

    def _add(self, path: Path, name: str, *, must_be: bool = True) -> None:
        try:
            digest = file_hash(path)
            self._archive.add(path, arcname=name, recursive=False, filter=_plain)
        except FileNotFoundError:
            if must_be:
                self._missing.append(name)
            return
        self._members[name] = {"sha256": digest, "bytes": path.stat().st_size}


@dataclass(frozen=True)
class _Named:
    """What the rows name on the disk."""

    files: list[str]
    artifacts: list[str]
    checkpoints: list[str]
    indexes: list[str]

    @classmethod
    def read(cls, connection: Any) -> _Named:
        def column(query: str) -> list[str]:
            return [row[0] for row in connection.execute(query).fetchall()]

        return cls(
            files=column("select distinct sha256 from files order by 1"),
            artifacts=column("select sha256 from artifacts order by 1"),
            # Only what an unfinished training would go on from.
            checkpoints=column("""
                select distinct on (c.job_id) c.path from checkpoints c join jobs j on j.id = c.job_id
                where j.finished_at is null order by c.job_id, c.step desc
            """),
            indexes=column("select id from indexes order by 1"),
        )


def _snapshot(place: Place, index: str) -> Path | None:
    """A snapshot of an index in a file of its own; None if the index is gone by now. The service that has it open takes
    it; where none runs, a process of our own."""
    folder = place.home.root / "snapshots"
    if place.rag_url is not None:
        try:
            answer = httpx.post(
                f"{place.rag_url}/v1/indexes/{index}/snapshot",
                headers={"Authorization": f"Bearer {place.token}"},
                timeout=SNAPSHOT_S,
            )
        except httpx.HTTPError as error:
            raise UserError(
                f"The retrieval service does not answer: {type(error).__name__}.",
                hint="`mt status` shows why.",
            ) from error
        if answer.status_code == 404:
            return None
        if not answer.is_success:
            raise UserError(f"Index {index} could not be read: {answer.text[:200]}")
        return folder / answer.json()["name"]
    target = folder / f"{index}-backup.tar"
    found = place.run("services.rag.offline", ["snapshot", f"{index}={target}"])
    return target if index in json.loads(found) else None


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file() and not path.is_symlink())


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Whose it is and when it was made here says nothing elsewhere."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
