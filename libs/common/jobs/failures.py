"""Which failure an exception means: a stable code, who can mend it, and how.

Codes that the runtime itself gives: `out_of_memory`, `disk_full`, `timeout`, `child_lost`, `worker_lost`, `internal_error`.
Bad data carries the code of the service that found it.
"""

from __future__ import annotations

import errno

from libs.common.errors import JobFailure, PlatformError
from libs.common.jobs.storable import storable

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DISK_TEXTS = ("no space left on device", "disk quota exceeded")


def failure_of(error: BaseException) -> JobFailure:
    """The failure that ends a job whose work raised `error`."""
    if isinstance(error, JobFailure):
        return error
    if isinstance(error, PlatformError):
        return JobFailure.of(error)
    text = str(storable(str(error)))
    if isinstance(error, MemoryError) or "out of memory" in text.lower():
        return JobFailure(
            "out_of_memory",
            f"The machine ran out of memory: {text}",
            hint="Lower batch_size or max_length, or use a machine with more memory.",
        )
    if _is_full_disk(error, text):
        return JobFailure(
            "disk_full", f"The disk is full: {text}", hint="Free some space and start the job again."
        )
    return JobFailure(
        "internal_error", f"{type(error).__name__}: {text}", hint="The job's log has the details."
    )


def _is_full_disk(error: BaseException, text: str) -> bool:
    # Libraries written in other languages raise errors of their own, with the system's words in them.
    known = isinstance(error, OSError) and error.errno in _DISK
    return known or any(words in text.lower() for words in _DISK_TEXTS)
