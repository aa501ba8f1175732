"""The folder that an answer may write to where it has no file system of its own: one each, watched and removed."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

from services.evaluator.sandbox.limits import Limits


def make(home: str) -> str:
    """A new folder below `home`; the process that calls this makes one at most."""
    folder = os.path.join(home, str(os.getpid()))
    os.mkdir(folder, 0o700)
    return folder


def is_over(folder: str, limits: Limits) -> bool:
    """Whether more than `limits` allows of files or bytes lies in it. Folders count as files."""
    files = size = 0
    waiting = [folder]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                files += 1
                if files > limits.files:
                    return True
                with suppress(OSError):
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return size > limits.file_mb * 2**20


def remove(folder: str) -> None:
    """Remove it, whatever an answer did to its modes."""
    for root, names, _ in os.walk(folder):
        for name in names:
            with suppress(OSError):
                path = os.path.join(root, name)
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
