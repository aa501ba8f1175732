"""A wrong answer beside its reference, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from model_training.contracts.evaluations import ItemResult

MOST_WORDS = 200
"""Longer texts are read, not compared word by word: the time grows with the square of their length."""
NEAR = 0.2
"""Texts that have less in common than this share nothing that a reader could use."""
_TOKEN = re.compile(r"\w+|[^\w\s]")


def difference(reference: str, answer: ItemResult) -> list[tuple[str, str]]:
    """Runs of words as (`same` | `missing` | `added`, text); empty for right, empty, long or unrelated answers."""
    if answer.correct or not reference:
        return []
    wanted, given = _TOKEN.findall(reference), _TOKEN.findall(answer.extracted or answer.output)
    if not given or max(len(wanted), len(given)) > MOST_WORDS:
        return []
    matcher = SequenceMatcher(None, wanted, given, autojunk=False)
    return [] if matcher.ratio() < NEAR else _runs(matcher, wanted, given)


def _runs(matcher: SequenceMatcher[str], wanted: list[str], given: list[str]) -> list[tuple[str, str]]:
    runs: list[tuple[str, str]] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            runs.append(("same", " ".join(wanted[a:b])))
            continue
        runs += [("missing", " ".join(wanted[a:b]))] if b > a else []
        runs += [("added", " ".join(given[c:d]))] if d > c else []
    return runs
