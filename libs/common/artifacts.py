"""A content-addressed, immutable store of directories: adapters, reports, indexes' inputs.

The id of an artifact is the SHA-256 over its files' names and contents. What is stored is never changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from libs.common.errors import NotFound


def hash_directory(directory: Path) -> str:
    """SHA-256 over every file's relative path, size and content, in sorted order.

    Raises:
        ValueError: the directory holds a symbolic link or no file at all.
    """
    digest = hashlib.sha256()
    files = sorted(path for path in directory.rglob("*") if not path.is_dir())
    if not files:
        raise ValueError(f"{directory} holds no file; an artifact needs at least one")
    for path in files:
        if path.is_symlink():
            raise ValueError(f"{path} is a symbolic link; an artifact holds plain files only")
        digest.update(f"{path.relative_to(directory).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def directory_bytes(directory: Path) -> int:
    """Bytes of all files below a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


class ArtifactStore:
    """Artifacts below one local root."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, artifact: str) -> Path:
        """The directory of an artifact.

        Raises:
            NotFound: there is none of that id.
        """
        path = self._root / artifact
        if not artifact.isalnum() or not path.is_dir():
            raise NotFound(f"There is no artifact {artifact!r}.", param="artifact")
        return path

    def commit(self, directory: Path) -> str:
        """Copy a finished directory into the store and return its id. Atomic; storing the same content again is free."""
        artifact = hash_directory(directory)
        target = self._root / artifact
        if target.is_dir():
            return artifact
        self._root.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=self._root))
        try:
            shutil.copytree(directory, staging, dirs_exist_ok=True)
            staging.chmod(0o755)
            self._publish(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return artifact

    def _publish(self, staging: Path, target: Path) -> None:
        try:
            os.rename(staging, target)
        except OSError:
            if not target.is_dir():  # another process stored the same content first: that is success
                raise
