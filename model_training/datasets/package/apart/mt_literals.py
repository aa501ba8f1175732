"""Values as canonical literal text. Standard library only: processes that import foreign packages load this file."""

from __future__ import annotations

import ast
from typing import Any

MAX_TEXT = 600  # characters of a value
MAX_NODES = 200  # values inside a value


def literal(value: Any) -> str:
    """Canonical text of a value that `ast.literal_eval` reads back: exact builtin types, bounded, sets in order.

    Raises:
        ValueError: if it is something else, or too large.
    """
    text = write(value, [MAX_NODES])
    if len(text) > MAX_TEXT:
        raise ValueError("too long")
    if ast.literal_eval(text) != value:
        raise ValueError("does not equal its literal")
    return text


def write(value: Any, budget: list[int]) -> str:
    """The text of one value; `budget` counts down over all values inside."""
    budget[0] -= 1
    if budget[0] < 0:
        raise ValueError("too many values")
    kind = type(value)
    if value is None or kind in (bool, str, bytes):
        if kind in (str, bytes) and len(str(value)) > MAX_TEXT:
            raise ValueError("too long")
        return repr(value)
    if kind is int and value.bit_length() < 1000:
        return repr(value)
    if kind is float and value == value and value not in (float("inf"), float("-inf")):
        return repr(value)
    if kind in (list, tuple, set, dict) and len(value) > MAX_NODES:
        raise ValueError("too many values")
    return write_container(value, kind, budget)


def write_container(value: Any, kind: type, budget: list[int]) -> str:
    """The text of a list, tuple, set or dict."""
    if kind is dict:
        return (
            "{" + ", ".join(f"{write(key, budget)}: {write(one, budget)}" for key, one in value.items()) + "}"
        )
    if kind not in (list, tuple, set):
        raise ValueError(kind.__name__)
    parts = [write(one, budget) for one in value]
    if kind is list:
        return "[" + ", ".join(parts) + "]"
    if kind is set:
        return "{" + ", ".join(sorted(parts)) + "}" if parts else "set()"
    return "(" + ", ".join(parts) + (",)" if len(parts) == 1 else ")")
