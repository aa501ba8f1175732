"""A content-addressed, immutable store of directories: adapters, reports, indexes' inputs.

The id of an artifact is the SHA-256 over its files' names and contents. What is stored is never changed. The store is a
directory, or a bucket with a directory as its cache (`artifacts_s3`); `open_artifacts` takes the one that is set.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from libs.common.errors import NotFound
from libs.common.settings import PlatformSettings

S3 = "s3://"


def open_artifacts(settings: PlatformSettings) -> ArtifactStore:
    """The store that `MT_ARTIFACTS_URL` names; without it, a directory of the platform's own.

    Raises:
        ImportError: it is a bucket, and s3fs is not installed (extra `s3`).
    """
    local = settings.home / "artifacts"
    url = settings.artifacts_url
    if url is None:
        return ArtifactStore(local)
    if not url.startswith(S3):
        return ArtifactStore(Path(url.removeprefix("file://")))
    from libs.common.artifacts_s3 import S3ArtifactStore

    return S3ArtifactStore(url, cache=local)


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


def no_artifact(artifact: str) -> NotFound:
    """The complaint about an id that nothing is stored under."""
    return NotFound(f"There is no artifact {artifact!r}.", param="artifact")


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
            raise no_artifact(artifact)
        return path

    def commit(self, directory: Path) -> str:
        """Copy a finished directory into the store and return its id. Atomic; storing the same content again is free, and
        makes it young again for `mt gc`."""
        artifact = hash_directory(directory)
        try:
            os.utime(self._root / artifact)
        except FileNotFoundError:
            with self._staging() as staging:
                shutil.copytree(directory, staging, dirs_exist_ok=True)
                self._publish(staging, artifact)
        return artifact

    @contextmanager
    def _staging(self) -> Generator[Path]:
        """A directory beside the artifacts, to be filled and published; gone at the end of the block."""
        self._root.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=self._root))
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _publish(self, staging: Path, artifact: str) -> None:
        target = self._root / artifact
        staging.chmod(0o755)
        try:
            os.rename(staging, target)
        except OSError:
            if not target.is_dir():  # another process stored the same content first: that is success
                raise
