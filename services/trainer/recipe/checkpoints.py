"""Checkpoints that are either whole or nothing.

A checkpoint directory counts only with its marker, which is written last and holds the hash of every file. Directories
lie under the fence of the attempt that wrote them, so that two attempts never write into one place. What a marker does not
confirm is ignored.
"""

from __future__ import annotations

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
    """What a committed checkpoint says of itself. `progress` are the counters of `trainer.Counters`."""

    step: int
    fence: int
    files: dict[str, str]
    metrics: dict[str, float]
    progress: dict[str, float]

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


def read_marker(path: Path) -> CheckpointMarker | None:
    """The marker of a checkpoint whose files are as they were committed, else None."""
    try:
        marker = CheckpointMarker(**json.loads((path / MARKER).read_text(encoding="utf-8")))
        whole = all(_sha256(path / name) == digest for name, digest in marker.files.items())
    except (OSError, ValueError, TypeError):
        return None
    return marker if whole and marker.step == _step(path) else None


def newest(root: Path) -> tuple[Path, CheckpointMarker] | None:
    """The committed checkpoint with the most steps, of whatever attempt; a damaged one is passed over."""
    for path in sorted(root.glob(f"fence-*/{PREFIX}*"), key=_age, reverse=True):
        marker = read_marker(path)
        if marker is not None:
            return path, marker
    return None


def rotate(root: Path, *, keep: int, best_step: int | None) -> list[int]:
    """Remove all committed checkpoints but the newest `keep` and the best; returns the steps that are gone."""
    committed = sorted(
        (path for path in root.glob(f"fence-*/{PREFIX}*") if (path / MARKER).exists()), key=_age, reverse=True
    )
    removed = [path for path in committed[keep:] if _step(path) != best_step]
    for path in removed:
        (path / MARKER).unlink()  # first, so that a removal that is interrupted leaves nothing that counts
        shutil.rmtree(path, ignore_errors=True)
    return [_step(path) for path in removed]


def _files(path: Path) -> list[Path]:
    return sorted(
        file for file in path.rglob("*") if file.is_file() and file.name not in (MARKER, f".{MARKER}")
    )


def _age(path: Path) -> tuple[int, int]:
    return _step(path), int(path.parent.name.removeprefix("fence-"))


def _step(path: Path) -> int:
    return int(path.name.removeprefix(PREFIX))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
