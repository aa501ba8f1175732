"""What grading gives, and the pure rules of comparing values. Nothing here runs an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from services.evaluator import syntax
from services.evaluator.sandbox.codec import Items

Status = Literal[
    "passed", "wrong", "no_answer", "error", "crashed", "timeout", "out_of_memory", "forbidden", "not_called"
]
"""`error` is an exception of the answer's own; `crashed` a process that ended without a value."""

TOLERANCE = 1e-9
"""Largest difference at which two floats count as equal, relative and absolute."""


@dataclass(frozen=True)
class Grade:
    """The outcome of one answer. `score` is 1 or 0 for executable items and between 0 and 1 for text."""

    status: Status
    reason: str
    score: float = 0.0
    extracted: str | None = None
    extraction_failed: bool = False
    scores: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def correct(self) -> bool:
        """Whether the answer passed."""
        return self.status == "passed"


@dataclass(frozen=True)
class Answer:
    """What a model answered. `prompt` is the text that it saw, as far as the platform tells."""

    text: str
    prompt: str
    latency_s: float
    prompt_tokens: int
    completion_tokens: int
    sources: tuple[dict[str, Any], ...] = ()
    is_cached: bool = False


class NotAnswered(Exception):
    """The platform refused one question; the message says why."""


def read_expected(text: str) -> Any:
    """The value of an item's `expected`. Raises ValueError for anything but a Python literal."""
    try:
        return syntax.literal(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"`expected` is no Python literal: {text[:80]!r}") from error


def same(value: Any, expected: Any) -> bool:
    """Equality of plain values, strict in types: 1 is not True and [1] is not (1,). Floats may differ by TOLERANCE.

    The items of an iterator are the same as a list of them, since that is how an example shows an iterator.
    """
    if isinstance(value, Items):
        return isinstance(expected, list) and _same_items(value.values, cast("list[Any]", expected))
    if type(value) is not type(expected):
        return False
    if isinstance(value, float):
        return _same_floats(value, expected)
    if isinstance(value, complex):
        return _same_floats(value.real, expected.real) and _same_floats(value.imag, expected.imag)
    if isinstance(value, (list, tuple)):
        return _same_items(cast("list[Any]", value), expected)
    if isinstance(value, (set, frozenset)):
        return {_key(item) for item in cast("set[Any]", value)} == {_key(item) for item in expected}
    if isinstance(value, dict):
        mine = {_key(k): v for k, v in cast("dict[Any, Any]", value).items()}
        theirs = {_key(k): v for k, v in expected.items()}
        return mine.keys() == theirs.keys() and all(same(mine[k], theirs[k]) for k in mine)
    return value == expected


def _same_items(values: Any, expected: Any) -> bool:
    return len(values) == len(expected) and all(map(same, values, expected))


def _same_floats(value: float, expected: float) -> bool:
    if math.isnan(value) or math.isnan(expected):
        return math.isnan(value) and math.isnan(expected)
    return value == expected or math.isclose(value, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _key(value: Any) -> Any:
    """Tells 1, 1.0 and True apart where a set or a dictionary would not."""
    if isinstance(value, (tuple, frozenset)):
        parts = [_key(item) for item in cast("tuple[Any, ...]", value)]
        return (type(value), frozenset(parts) if isinstance(value, frozenset) else tuple(parts))
    if isinstance(value, (float, complex)) and value != value:
        return (type(value), "nan")
    return (type(value), value)


def show(value: Any, width: int = 120) -> str:
    """A value as text for people, at most `width` characters."""
    text = f"an iterator over {list(value.values)!r}" if isinstance(value, Items) else repr(value)
    return text if len(text) <= width else f"{text[: width - 1]}…"
