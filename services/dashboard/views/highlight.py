"""Which words of an answer stand in its sources, and which words of a source the answer uses.

It compares words, not meanings: what is marked was (also) in the passage, what is not marked may still be meant there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEAST_WORDS = 3
"""A run of fewer words stands in any two texts; a name of the library counts alone."""
MOST_WORDS = 4_000
_TOKEN = re.compile(r"\w+(?:\.\w+)*|[^\w\s]")
_NAME = re.compile(r"(?=.{5,})\w+[_.]\w[\w.]*$")
"""A word that only code uses: it counts alone."""


@dataclass(frozen=True)
class Span:
    """A stretch of a text. `source` is the number of a passage that holds it, None where none does."""

    text: str
    source: int | None = None


@dataclass(frozen=True)
class _Word:
    start: int
    end: int
    text: str


def highlight(text: str, passages: Mapping[int, str]) -> list[Span]:
    """The text in spans, those marked that a passage holds too. Joined, the spans are the text again."""
    words = _words(text)
    held = {number: _Passage(passage) for number, passage in passages.items()}
    spans: list[Span] = []
    done = position = 0
    while position < len(words):
        number, length = _longest(words, position, held)
        if number is None:
            position += 1
            continue
        start, end = words[position].start, words[position + length - 1].end
        if start > done:
            spans.append(Span(text[done:start]))
        spans.append(Span(text[start:end], number))
        done, position = end, position + length
    return [*spans, Span(text[done:])] if done < len(text) else spans


def _words(text: str) -> list[_Word]:
    found = [_Word(m.start(), m.end(), m.group().casefold()) for m in _TOKEN.finditer(text)]
    return found[:MOST_WORDS]


class _Passage:
    """A passage's words, and where each run of `LEAST_WORDS` begins."""

    def __init__(self, text: str) -> None:
        self.words = [word.text for word in _words(text)]
        self.known = set(self.words)
        self.runs: dict[tuple[str, ...], list[int]] = {}
        for start in range(len(self.words) - LEAST_WORDS + 1):
            self.runs.setdefault(tuple(self.words[start : start + LEAST_WORDS]), []).append(start)

    def match(self, words: Sequence[_Word], position: int) -> int:
        """How many words from `position` on stand here in a row; 0 for too few to say anything."""
        key = tuple(word.text for word in words[position : position + LEAST_WORDS])
        longest = max((self._run(words, position, start) for start in self.runs.get(key, ())), default=0)
        real = sum(len(word.text) > 2 for word in words[position : position + longest])
        if real >= 2:
            return longest
        return 1 if _NAME.match(words[position].text) and words[position].text in self.known else 0

    def _run(self, words: Sequence[_Word], position: int, start: int) -> int:
        length = 0
        while (
            position + length < len(words)
            and start + length < len(self.words)
            and words[position + length].text == self.words[start + length]
        ):
            length += 1
        return length


def _longest(words: Sequence[_Word], position: int, held: Mapping[int, _Passage]) -> tuple[int | None, int]:
    """The passage with the longest run from a word on, the first among equals, and the run's length."""
    best: int | None = None
    longest = 0
    for number, passage in held.items():
        length = passage.match(words, position)
        if length > longest:
            best, longest = number, length
    return best, longest
