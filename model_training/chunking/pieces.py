"""A piece of a document on its way to becoming a passage, and what all ways of cutting share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from semantic_text_splitter import TextSplitter


class Splitter(Protocol):
    """What the splitters of semantic-text-splitter share."""

    def chunk_indices(self, text: str) -> list[tuple[int, str]]:
        """Parts of a text, each with the character that it starts at."""
        ...


@dataclass(frozen=True)
class Piece:
    """A run of lines with the titles above it. Lines count from 1; `names` are the functions that it defines."""

    text: str
    line_start: int
    line_end: int
    title_path: tuple[str, ...] = ()
    names: tuple[str, ...] = field(default=())


def shortened(piece: Piece, capacity: int, splitter: Splitter | None = None) -> Iterator[Piece]:
    """The piece, or several of at most `capacity` characters, cut where meaning breaks least."""
    if len(piece.text) <= capacity:
        if piece.text.strip():
            yield piece
        return
    for offset, text in (splitter or TextSplitter(capacity)).chunk_indices(piece.text):
        first = piece.line_start + piece.text.count("\n", 0, offset)
        yield replace(piece, text=text, line_start=first, line_end=first + text.count("\n"))


def plain_pieces(text: str, capacity: int) -> Iterator[Piece]:
    """Plain text by paragraphs, lines and sentences."""
    yield from shortened(Piece(text, 1, text.count("\n") + 1), capacity)
