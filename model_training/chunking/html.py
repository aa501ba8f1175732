"""HTML by its headings, without what surrounds the content: scripts, navigation, footers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lxml import html

from model_training.chunking.pieces import Piece, shortened

LEFT_OUT = frozenset(
    {"script", "style", "nav", "footer", "aside", "noscript", "template", "form", "svg", "head"}
)
HEADINGS = {f"h{level}": level for level in range(1, 7)}
BLOCKS = frozenset(
    {"p", "li", "pre", "td", "th", "dt", "dd", "blockquote", "div", "section", "article", "main", "tr", "br"}
)


@dataclass
class _Sections:
    """What has been read: finished sections, and the one that is open."""

    done: list[Piece] = field(default_factory=list[Piece])
    path: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    parts: list[str] = field(default_factory=list[str])
    first: int = 1
    last: int = 1

    def add(self, text: str | None, line: int | None, *, preformatted: bool = False) -> None:
        """Text of the open section."""
        if text and (preformatted or text.strip()):
            if not self.parts:
                self.first = line or self.last
            self.last = max(self.last, line or 1)
            self.parts.append(text if preformatted else " ".join(text.split()) + " ")

    def close(self) -> None:
        """End the open section."""
        lines = [line.rstrip() for line in "".join(self.parts).splitlines()]
        text = "\n".join(line for line in lines if line).strip()
        if text:
            titles = tuple(title for _, title in self.path)
            self.done.append(Piece(text, self.first, max(self.first, self.last), titles))
        self.parts = []

    def heading(self, level: int, title: str) -> None:
        """A new section starts."""
        self.close()
        self.path = [*(entry for entry in self.path if entry[0] < level), (level, title)]


def html_pieces(text: str, capacity: int) -> Iterator[Piece]:
    """The sections of a page, each with the headings above it; long ones in several pieces.

    Lines are those of the source in which a section's first and last text stand.
    """
    if not text.strip():
        return
    sections = _Sections()
    _read(html.document_fromstring(text.encode(), parser=html.HTMLParser(encoding="utf-8")), sections)
    sections.close()
    for piece in sections.done:
        for part in shortened(piece, capacity):
            # The text is not the source's: lines within it say nothing about lines there.
            yield Piece(part.text, piece.line_start, piece.line_end, piece.title_path)


def _read(element: Any, sections: _Sections) -> None:
    tag = element.tag
    if not isinstance(tag, str) or tag in LEFT_OUT:
        return
    if tag in HEADINGS:
        sections.heading(HEADINGS[tag], " ".join(element.text_content().split()).rstrip("¶#").strip())
        return
    if tag == "pre":
        sections.add(f"\n{element.text_content()}\n", element.sourceline, preformatted=True)
        return
    sections.add(element.text, element.sourceline)
    for child in element:
        _read(child, sections)
        sections.add(child.tail, child.sourceline)
    if tag in BLOCKS:
        sections.parts.append("\n")
