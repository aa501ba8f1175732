"""Where the bytes of uploaded files lie: under the hash of their content, so that the same bytes are stored once."""

from __future__ import annotations

from pathlib import Path


def file_path(home: Path, sha256: str) -> Path:
    """The path of a stored file."""
    return home / "files" / sha256
