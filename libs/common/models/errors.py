"""What can go wrong when a model is prepared; each is one sentence and a way out."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from libs.common.errors import Unavailable


class ModelNotPrepared(Unavailable):
    """The base model is not on this machine yet"""

    code = "model_not_prepared"


class ModelGated(ModelNotPrepared):
    """The hub gives the model only to those who accepted its licence"""

    code = "model_gated"


class ModelOffline(ModelNotPrepared):
    """The model would have to be downloaded, and this machine is set to stay offline"""

    code = "model_offline"


class HubUnreachable(ModelNotPrepared):
    """The hub does not answer"""

    code = "hub_unreachable"


class ChecksumMismatch(ModelNotPrepared):
    """A downloaded file is not the published one"""

    code = "checksum_mismatch"


class DiskFull(Unavailable):
    """There is no room on the disk"""

    code = "disk_full"


def megabytes(count: float) -> str:
    """Bytes for a person: MB below 10,000 of them, else GB."""
    return f"{count / 1e6:.0f} MB" if count < 10e9 else f"{count / 1e9:.1f} GB"


def require_room(directory: Path, needed: int) -> None:
    """Refuse before anything is written that the disk cannot hold it.

    Raises:
        DiskFull: less than `needed` bytes are free.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise _disk_full(directory, f"{megabytes(needed)} are needed and {megabytes(free)} are free")


@contextmanager
def disk_errors(directory: Path) -> Generator[None]:
    """Turn a write that found no room into `DiskFull`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _disk_full(directory, "more is needed than is free") from error


def _disk_full(directory: Path, why: str) -> DiskFull:
    return DiskFull(
        f"The disk of {directory} is full: {why}.",
        hint="Free some space, or set MT_MODEL_DIR to another disk.",
    )
