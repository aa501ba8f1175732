"""An index in one file: a tar of its stamp, passages and vectors. Nothing in it belongs to an engine, so any store,
also of another version or kind, restores it. No pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from libs.common.errors import InvalidInput, NotFound
from services.rag.ports import VectorStore
from services.rag.vectors import CHUNKS, VECTORS, export_points, read_vectors

STAMP = "stamp.json"
MEMBERS = (STAMP, CHUNKS, VECTORS)


def write_snapshot(store: VectorStore, index_id: str, target: Path) -> int:
    """Write an index into a tar file, which appears when it is complete; returns the number of passages.

    Raises:
        NotFound: there is no such index.
    """
    stamp = store.stamp(index_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".snapshot-") as name:
        directory = Path(name)
        count = export_points(directory, store.points(index_id), stamp["embedder"]["dimension"])
        (directory / STAMP).write_text(json.dumps(stamp, indent=2), encoding="utf-8")
        with tarfile.open(directory / "all.tar", "w") as archive:
            for member in MEMBERS:
                archive.add(directory / member, arcname=member)
        os.replace(directory / "all.tar", target)
    return count


def read_snapshot(store: VectorStore, index_id: str, source: Path) -> tuple[dict[str, Any], int]:
    """Build an index from a tar file; returns its stamp and the number of passages.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is no snapshot.
    """
    if not source.is_file():
        raise NotFound(f"There is no snapshot {source.name!r}.", param="snapshot")
    with tempfile.TemporaryDirectory(dir=source.parent, prefix=".restore-") as name:
        directory = Path(name)
        try:
            with tarfile.open(source) as archive:
                for member in MEMBERS:
                    _copy_out(archive, member, directory / member)
            stamp: dict[str, Any] = json.loads((directory / STAMP).read_text(encoding="utf-8"))
        except (tarfile.TarError, KeyError, ValueError) as error:
            raise InvalidInput(
                f"{source.name} is not a snapshot of an index: {error}", param="snapshot"
            ) from error
        return stamp, store.build(index_id, read_vectors(directory), stamp)


def _copy_out(archive: tarfile.TarFile, member: str, target: Path) -> None:
    """Only the content is taken: no name, link or mode of the archive reaches the disk (`filter="data"` needs 3.11.4)."""
    content = archive.extractfile(member)
    if content is None:
        raise ValueError(f"{member} is no file")
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file)


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
