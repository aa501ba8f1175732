"""Values that PostgreSQL can keep: no NUL characters, no lone surrogates, no NaN. Models and libraries write all of them."""

from __future__ import annotations

import math
from typing import Any, cast


def storable(value: Any) -> Any:
    """The same JSON value with what no JSONB column takes replaced: text by `\\ufffd` or `?`, NaN and infinities by None."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [storable(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in cast("dict[Any, Any]", value).items()}
    return value
