"""Which failure an exception means."""

from __future__ import annotations

import errno

import pytest

from libs.common.errors import InvalidFile, JobFailure
from libs.common.jobs.failures import failure_of


@pytest.mark.parametrize(
    ("error", "code", "blame"),
    [
        (MemoryError(), "out_of_memory", "system"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory", "system"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full", "system"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full", "system"),
        (OSError(errno.EFBIG, "File too large"), "disk_full", "system"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "disk_full", "system"),
        (InvalidFile("Row 3 has no answer.", param="training_file"), "invalid_file", "user"),
        (JobFailure("bad_data", "Row 3 is bad.", blame="user"), "bad_data", "user"),
        (KeyError("x"), "internal_error", "system"),
    ],
)
def test_the_code_says_what_and_the_blame_says_who(error: Exception, code: str, blame: str) -> None:
    failure = failure_of(error)
    assert (failure.error.code, failure.error.blame, failure.retry) == (code, blame, False)


def test_a_message_holds_no_text_that_cannot_be_stored() -> None:
    assert failure_of(ValueError("\x00\ud800")).error.message == "ValueError: \ufffd?"
