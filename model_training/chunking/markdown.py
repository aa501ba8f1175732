"""Markdown by its headings; what a code fence holds is no heading."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from markdown_it import MarkdownIt
from semantic_text_splitter import MarkdownSplitter

from model_training.chunking.pieces import Piece, shortened


def markdown_pieces(text: str, capacity: int) -> Iterator[Piece]:
    """The sections of a document, each with the headings above it; long ones in several pieces.

    A heading without text of its own gives no piece: it stands in the title path of what follows.
    """
    lines = text.splitlines()
    splitter = MarkdownSplitter(capacity)
    headings = [*_headings(text), (len(lines), len(lines), 0, "")]
    first = headings[0][0]
    if first:
        opening = Piece("\n".join(lines[:first]), 1, first)
        yield from (_stripped(part) for part in shortened(opening, capacity, splitter))
    path: list[tuple[int, str]] = []
    for (_, start, level, title), (end, *_rest) in pairwise(headings):
        path = [*(entry for entry in path if entry[0] < level), (level, title)]
        piece = Piece("\n".join(lines[start:end]), start + 1, end, tuple(name for _, name in path))
        yield from (_stripped(part) for part in shortened(piece, capacity, splitter))


def _headings(text: str) -> list[tuple[int, int, int, str]]:
    """First line, line after it, level and words of each heading that stands at the outermost level."""
    tokens = MarkdownIt("commonmark").parse(text)
    found: list[tuple[int, int, int, str]] = []
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open" and opening.level == 0 and opening.map is not None:
            words = "".join(child.content for child in inline.children or [])
            start, end = opening.map
            found.append((start, end, int(opening.tag[1]), words.strip()))
    return found


def _stripped(piece: Piece) -> Piece:
    before = len(piece.text) - len(piece.text.lstrip("\n"))
    body = piece.text.strip("\n")
    start = piece.line_start + before
    return Piece(body, start, start + body.count("\n"), piece.title_path, piece.names)
