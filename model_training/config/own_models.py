"""Models that a user brought: prepared beside those of the catalogue, and described by what was recorded then.

Reads the one field `entry` of `source.json` in each directory of `MT_MODEL_DIR`. Nothing is cached: a model that was
prepared a moment ago is known to every process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOURCE_FILE = "source.json"


def model_dir() -> Path:
    """Where prepared models lie: `MT_MODEL_DIR`, or `~/.cache/model-training/models`."""
    chosen = os.environ.get("MT_MODEL_DIR")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "model-training" / "models"


def read_own_model(name: str) -> dict[str, Any] | None:
    """The recorded entry of a model of that name; None when there is no such model, or it is one of the catalogue's."""
    if not name or "/" in name or name.startswith("."):
        return None
    try:
        text = (model_dir() / name / SOURCE_FILE).read_text(encoding="utf-8")
        return json.loads(text)["entry"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def own_names() -> Iterator[str]:
    """Names of the directories that hold a model that a user brought, in order."""
    for path in sorted(model_dir().glob(f"[!.]*/{SOURCE_FILE}")):
        if read_own_model(path.parent.name):
            yield path.parent.name
