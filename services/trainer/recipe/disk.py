"""Writes that find no room: said in one way, with nothing half-written left in the way of those that come after."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from libs.common.errors import JobFailure
from libs.common.models.errors import megabytes

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Writers in other languages raise errors of their own. PyTorch's says only that it is not where it should be in its file.
_TEXTS = (
    "no space left on device",
    "disk quota exceeded",
    "file too large",
    "inline_container",
    "pytorchstreamwriter",
)


@contextmanager
def whole_or_nothing(directory: Path, what: str) -> Generator[None]:
    """Write into a directory; if there is no room for all of it, remove what was written of it.

    Args:
        directory: where `what` is written, and nothing else.
        what: for people, such as `the checkpoint at step 40`.

    Raises:
        JobFailure: `disk_full`. The job is tried again, from its last whole checkpoint: room may have come back.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _no_room(error):
            raise
        shutil.rmtree(directory, ignore_errors=True)
        free = shutil.disk_usage(directory.parent).free
        raise JobFailure(
            "disk_full",
            f"There is no room for {what} on the disk of {directory.parent}: {megabytes(free)} are free.",
            hint="Free some space, or lower keep_checkpoints.",
            retry=True,
        ) from error


def _no_room(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    return any(text in str(error).lower() for text in _TEXTS)
