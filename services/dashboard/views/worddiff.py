"""Two texts beside each other, word by word: what only the one has, what only the other has, and what both have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

MOST_TOKENS = 1_500
"""Longer texts are shown, not compared: the time grows with the square of their length."""
NEAR = 0.4
"""Texts that share less are easier read beside each other than through each other."""
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True)
class Run:
    """A stretch of text. `missing` stands in the first text only, `added` in the second only."""

    kind: Literal["same", "missing", "added"]
    text: str


def word_diff(first: str, second: str) -> list[Run]:
    """The runs that lead from the first text to the second; empty where one is too long, or they have too little in common.

    The runs that are not `added` make the first text, those that are not `missing` the second.
    """
    before, after = _TOKEN.findall(first), _TOKEN.findall(second)
    if max(len(before), len(after)) > MOST_TOKENS:
        return []
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    return [] if matcher.ratio() < NEAR else list(_runs(matcher, before, after))


def _runs(matcher: SequenceMatcher[str], before: list[str], after: list[str]) -> Iterator[Run]:
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            yield Run("same", "".join(before[a:b]))
            continue
        if b > a:
            yield Run("missing", "".join(before[a:b]))
        if d > c:
            yield Run("added", "".join(after[c:d]))
