"""Turns a wrong name into a hint that says which right one was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 12


def did_you_mean(wrong: str, known: Iterable[str], *, noun: str = "Known") -> str:
    """`Did you mean …?` when something is close, otherwise the names that exist, the first dozen of them."""
    names = list(known)
    word = wrong.lower()
    close = [name for name in names if word and name.lower().startswith(word)][:3]
    close = close or get_close_matches(word, names, n=3, cutoff=0.7)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{noun}: {', '.join(names[:_SHOWN])}{more}."
