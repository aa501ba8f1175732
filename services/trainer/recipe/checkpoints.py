"""Checkpoints that are either whole or nothing.

A checkpoint directory counts only with its marker, which is written last and holds the hash of every file. Directories
lie under the fence of the attempt that wrote them, so that two attempts never write into one place. What a marker does not
confirm is not used, and `survey` says why.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MARKER = "COMMITTED.json"
PREFIX = "checkpoint-"


@dataclass(frozen=True)
class CheckpointMarker:
    """What a committed checkpoint says of itself. `progress` is a `trainer.Counters` as a dict."""

    step: int
    fence: int
    files: dict[str, str]
    metrics: dict[str, float]
    progress: dict[str, Any]

    @property
    def sha256(self) -> str:
        """One hash for all files."""
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()


def attempt_directory(root: Path, fence: int) -> Path:
    """Where the attempt with this fence writes."""
    return root / f"fence-{fence}"


def commit(path: Path, fence: int, metrics: dict[str, float], progress: dict[str, Any]) -> CheckpointMarker:
    """Seal a finished checkpoint directory."""
    files = {file.relative_to(path).as_posix(): _sha256(file) for file in _files(path)}
    marker = CheckpointMarker(_step(path), fence, files, metrics, progress)
    unfinished = path / f".{MARKER}"
    with unfinished.open("w", encoding="utf-8") as stream:
        json.dump(asdict(marker), stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(unfinished, path / MARKER)
    return marker


@dataclass(frozen=True)
class Found:
    """A checkpoint directory. It counts if it has a marker; otherwise `fault` says what is wrong with it."""

    path: Path
    marker: CheckpointMarker | None
    fault: str = ""

    @property
    def step(self) -> int:
        """The step that the directory is named after."""
        return _step(self.path)


def inspect(path: Path) -> Found:
    """Read a checkpoint's marker and compare every file with its hash."""
    try:
        marker = CheckpointMarker(**json.loads((path / MARKER).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Found(path, None, "it was not finished")
    except (OSError, ValueError, TypeError):
        return Found(path, None, f"{MARKER} cannot be read")
    if marker.step != _step(path):
        return Found(path, None, f"{MARKER} is that of step {marker.step}")
    if {file.relative_to(path).as_posix() for file in _files(path)} != marker.files.keys():
        return Found(path, None, "files are missing or were added")
    for name, digest in marker.files.items():
        try:
            same = _sha256(path / name) == digest
        except OSError:
            same = False
        if not same:
            return Found(path, None, f"{name} is not what was written")
    return Found(path, marker)


def survey(root: Path) -> list[Found]:
    """Every checkpoint of every attempt, those with the most steps first and of two at a step the later one first."""
    paths = sorted(root.glob(f"fence-*/{PREFIX}*"), key=_age, reverse=True)
    return [inspect(path) for path in paths]


def newest(root: Path) -> Found | None:
    """The committed checkpoint with the most steps, of whatever attempt; a damaged one is passed over."""
    return next((found for found in survey(root) if found.marker is not None), None)


def set_aside(found: Found) -> None:
    """Rename a checkpoint that does not count, so that nothing looks at it again; a person still can."""
    with contextlib.suppress(OSError):
        os.rename(found.path, found.path.with_name(f"damaged-{found.step}"))


def rotate(root: Path, fence: int, *, keep: int, best_step: int | None) -> list[int]:
    """Remove all committed checkpoints but the newest `keep` and the best; returns the steps that are gone.

    What a later attempt wrote is left alone: whoever asks may have lost the job to it without knowing yet.
    """
    mine = (
        path for path in root.glob(f"fence-*/{PREFIX}*") if (path / MARKER).exists() and _fence(path) <= fence
    )
    committed = sorted(mine, key=_age, reverse=True)
    removed = [path for path in committed[keep:] if _step(path) != best_step]
    for path in removed:
        gone = path.with_name(
            f"removed-{_step(path)}"
        )  # so that a removal that is interrupted is not taken for damage
        os.rename(path, gone)
        shutil.rmtree(gone, ignore_errors=True)
    return [_step(path) for path in removed]


def _files(path: Path) -> list[Path]:
    return sorted(
        file for file in path.rglob("*") if file.is_file() and file.name not in (MARKER, f".{MARKER}")
    )


def _age(path: Path) -> tuple[int, int]:
    return _step(path), _fence(path)


def _fence(path: Path) -> int:
    return int(path.parent.name.removeprefix("fence-"))


def _step(path: Path) -> int:
    return int(path.name.removeprefix(PREFIX))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
