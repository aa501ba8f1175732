"""Artifacts in a bucket: Amazon S3, or anything that speaks its protocol (`AWS_ENDPOINT_URL`).

An artifact is its files below `<url>/<id>/` and a list of them, `<url>/<id>.json`, which is written last: without it there
is no artifact. Readers get a local copy, which exists only once its hash is the id. Keys come from where every AWS program
takes them; nothing of them is kept or logged here.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import s3fs
from botocore.exceptions import BotoCoreError, ClientError

from libs.common.artifacts import ArtifactStore, hash_directory, no_artifact
from libs.common.errors import PlatformError, Unavailable

CLIENT: dict[str, Any] = {
    "connect_timeout": 5,
    "read_timeout": 60,
    "retries": {"max_attempts": 4, "mode": "standard"},
}


class ArtifactDamaged(PlatformError):
    """What the store holds is not what was stored"""

    status, code = 502, "artifact_damaged"


class S3ArtifactStore(ArtifactStore):
    """Artifacts below `s3://bucket/prefix`, with copies below `cache`. Uploading the same content again sends nothing."""

    def __init__(self, url: str, cache: Path) -> None:
        super().__init__(cache)
        self._url = url.rstrip("/")
        # What one process lists is soon changed by another: nothing about the bucket is remembered.
        self._bucket = s3fs.S3FileSystem(config_kwargs=CLIENT, use_listings_cache=False)

    def path(self, artifact: str) -> Path:
        """A local copy of an artifact, fetched if it is not there.

        Raises:
            NotFound: there is none of that id.
            ArtifactDamaged: the bucket holds other bytes than those that were stored.
            Unavailable: the bucket does not answer, or refuses.
        """
        target = self._root / artifact
        if not artifact.isalnum():
            raise no_artifact(artifact)
        if not target.is_dir():
            with self._staging() as staging:
                self._fetch(artifact, staging)
                self._publish(staging, artifact)
        return target

    def commit(self, directory: Path) -> str:
        """Store a finished directory in the bucket and keep a copy here; returns its id.

        Raises:
            Unavailable: the bucket does not answer, or refuses. Then there is no artifact, and trying again is safe.
        """
        artifact = hash_directory(directory)
        with self._translated():
            if not self._bucket.exists(self._list_of(artifact)):
                self._send(directory, artifact)
        return super().commit(directory)

    def _send(self, directory: Path, artifact: str) -> None:
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        names = [path.relative_to(directory).as_posix() for path in files]
        for path, name in zip(files, names, strict=True):
            self._bucket.put_file(str(path), f"{self._url}/{artifact}/{name}")
        self._bucket.pipe_file(self._list_of(artifact), json.dumps({"files": names}).encode())

    def _fetch(self, artifact: str, into: Path) -> None:
        with self._translated():
            try:
                names: list[str] = json.loads(self._bucket.cat_file(self._list_of(artifact)))["files"]
            except FileNotFoundError as error:
                raise no_artifact(artifact) from error
            except (ValueError, TypeError, KeyError) as error:
                raise self._damaged(artifact, "the list of its files cannot be read") from error
            for name in names:
                self._fetch_file(artifact, name, into)
        if hash_directory(into) != artifact:
            raise self._damaged(artifact, "its files have another hash")

    def _fetch_file(self, artifact: str, name: str, into: Path) -> None:
        where = PurePosixPath(name)
        if where.is_absolute() or ".." in where.parts:
            raise self._damaged(artifact, f"it lists {name!r}")
        (into / where).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._bucket.get_file(f"{self._url}/{artifact}/{name}", str(into / where))
        except FileNotFoundError as error:
            raise self._damaged(artifact, f"{name} is gone") from error

    def _list_of(self, artifact: str) -> str:
        return f"{self._url}/{artifact}.json"

    def _damaged(self, artifact: str, what: str) -> ArtifactDamaged:
        return ArtifactDamaged(
            f"The artifact {artifact} in {self._url} is damaged: {what}.",
            hint="Restore the object from a backup or an earlier version, or make the artifact again.",
        )

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, OSError) as error:
            raise Unavailable(
                f"The artifact store {self._url} cannot be used: {str(error).splitlines()[0]}",
                hint="Check MT_ARTIFACTS_URL, the AWS_… settings and the bucket's rights.",
            ) from error
