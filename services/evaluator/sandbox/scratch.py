"""The folder that an answer may write to where it has no file system of its own: watched, and emptied after each answer."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

from services.evaluator.sandbox.limits import Limits


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


def clear(folder: str) -> None:
    """Remove all that lies in it, whatever an answer did to the modes of its folders."""
    for root, names, _ in os.walk(folder):
        for name in names:
            with suppress(OSError):
                path = os.path.join(root, name)
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
    for entry in os.listdir(folder):
        path = os.path.join(folder, entry)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                os.unlink(path)
