"""Puts a backup back into an empty place, also one of an older version: everything is checked before anything is written."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from model_training.errors import UserError
from model_training.home import Home
from model_training.operations import tables
from model_training.operations.backup import (
    FORMAT,
    MANIFEST,
    OFFLINE,
    SECRETS,
    STANDARD,
    Summary,
    file_hash,
    summary,
)
from model_training.operations.place import Place, connect

KINDS = frozenset({"database", "files", "artifacts", "checkpoints", "indexes", "settings"})


@contextmanager
def unpacked(source: Path, home: Home) -> Generator[tuple[Path, dict[str, Any]]]:
    """The backup's members in a directory beside the data, with every hash checked; gone at the end of the block.

    Raises:
        UserError: it is no backup, of another format, or damaged.
    """
    home.create()
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=home.root) as name:
        directory = Path(name)
        try:
            with _opened(source) as archive:
                for member in archive:
                    _take(archive, member, directory)
            manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            if source != STANDARD and not source.exists():
                raise
            raise UserError(f"{source} is not a whole backup: it holds no {MANIFEST}.") from error
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise UserError(f"{source} is not a backup: {error}") from error
        _check(source, directory, manifest)
        yield directory, manifest


def _opened(source: Path) -> tarfile.TarFile:
    if source == STANDARD:
        return tarfile.open(fileobj=sys.stdin.buffer, mode="r|")
    return tarfile.open(source)


def put_secrets(directory: Path, home: Home) -> bool:
    """Put the secrets of a backup where the platform looks for them, before it is started; False if it holds none.

    Without them keys that were made before do not open the restored platform.
    """
    found = [name for name in SECRETS if (directory / "settings" / name).is_file()]
    for name in found:
        _move(directory / "settings" / name, home.root / name)
        (home.root / name).chmod(0o600)
    return bool(found)


def restore(place: Place, source: Path, directory: Path, manifest: dict[str, Any]) -> Summary:
    """Fill an empty database and the data directory, then bring the database to this version and rebuild the indexes.

    Raises:
        UserError: the database is not empty, or the backup is of a newer version than this one.
    """
    with connect(place) as connection:
        if tables.revision(connection) is not None:
            raise UserError(
                "The database is not empty.",
                hint="Restore into a new --home, or into a database of its own. Nothing was changed.",
            )
    place.run("migrations.upgrade", [manifest["revision"]])
    with connect(place) as connection:
        for entry in manifest["tables"]:
            table = tables.Table(**entry | {"columns": tuple(entry["columns"])})
            connection.execute(
                f'delete from "{table.name}"'  # nosec B608 # the names are those of a checked backup
            )  # what migrations have put there is in the backup too
            tables.copy_in(connection, table, directory / "database" / f"{table.name}.gz")
        tables.set_sequences(connection)
        connection.execute(
            "update checkpoints set path = %s || substr(path, length(%s) + 1) where starts_with(path, %s)",
            [str(place.home.root), manifest["home"], manifest["home"] + "/"],
        )
    place.run("migrations.upgrade", [])
    _put_trees(place, directory)
    snapshots = sorted((directory / "indexes").glob("*.tar"))
    if snapshots:
        place.run("services.rag.offline", ["restore", *(f"{path.stem}={path}" for path in snapshots)])
    return summary(source, manifest)


def _put_trees(place: Place, directory: Path) -> None:
    root = place.home.root
    if place.artifacts is None and (found := sorted((directory / "artifacts").glob("*"))):
        place.run(OFFLINE, ["store", *map(str, found)])
    targets = {
        "files": root / "files",
        "artifacts": place.artifacts or root / "artifacts",
        "checkpoints": root,
    }
    for kind, target in targets.items():
        for path in sorted((directory / kind).rglob("*")):
            if path.is_file():
                _move(path, target / path.relative_to(directory / kind))
    for path in sorted((directory / "settings").glob("*.yaml")):
        _move(path, root / path.name)


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and file_hash(target) == file_hash(path):
        return
    shutil.move(path, target)


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, directory: Path) -> None:
    """Only plain files below the kinds that there are: no link, device, mode or way out of the archive reaches the disk."""
    where = PurePosixPath(member.name)
    known = member.name == MANIFEST or (len(where.parts) > 1 and where.parts[0] in KINDS)
    if not member.isfile() or where.is_absolute() or ".." in where.parts or not known:
        raise UserError(f"The archive holds {member.name[:200]!r}, which no backup does.")
    target = directory / where
    target.parent.mkdir(parents=True, exist_ok=True)
    content = archive.extractfile(member)
    assert content is not None, "it is a file"
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with content, os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(content, file)


def _check(source: Path, directory: Path, manifest: dict[str, Any]) -> None:
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{source} is of format {manifest.get('format')!r}; this version reads {FORMAT}.",
            hint="Restore it with the version that made it, then upgrade.",
        )
    for name, entry in manifest["members"].items():
        path = directory / name
        if not path.is_file() or file_hash(path) != entry["sha256"]:
            raise UserError(f"{source} is damaged: {name} is not what was backed up. Nothing was restored.")
