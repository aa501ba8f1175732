"""Files that a command leaves behind: written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file beside its name and move it there; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a text in UTF-8, with a newline at its end."""
    return write_bytes(path, (text.rstrip("\n") + "\n").encode())


def write_lines(path: Path, items: Iterable[BaseModel]) -> Path:
    """Write wire models as JSON Lines."""
    return write_bytes(path, "".join(f"{item.model_dump_json()}\n" for item in items).encode())
