"""Documents to passages, with ids that stay when lines above them move."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version

from pydantic import ValidationError

from model_training.chunking.code import GRAMMARS, code_pieces
from model_training.chunking.html import html_pieces
from model_training.chunking.markdown import markdown_pieces
from model_training.chunking.pieces import Piece, plain_pieces
from model_training.chunking.sources import HTML, MARKDOWN, PASSAGES, Document
from model_training.contracts.indexes import Chunk, Source
from model_training.errors import UserError

CAPACITY = 800
"""Characters of a passage: of code about the 256 tokens that MiniLM reads, of prose fewer."""

CUT = 1
"""Raised when the same document would be cut otherwise."""


def chunker_name(capacity: int = CAPACITY) -> str:
    """What cut the passages, as it stands in an index's stamp."""
    return f"syntax and headings {CUT}, {capacity} characters, semantic-text-splitter {version('semantic-text-splitter')}"


def build_passages(documents: Iterable[Document], capacity: int = CAPACITY) -> Iterator[Chunk]:
    """The passages of all documents; ids are unique.

    Raises:
        UserError: a file of ready passages holds a row that is none.
    """
    seen: Counter[str] = Counter()
    for document in documents:
        if document.suffix == PASSAGES:
            yield from _ready(document)
            continue
        for piece in _pieces(document, capacity):
            yield _chunk(document, piece, seen)


def _pieces(document: Document, capacity: int) -> Iterator[Piece]:
    if document.suffix in MARKDOWN:
        return markdown_pieces(document.text, capacity)
    if document.suffix in HTML:
        return html_pieces(document.text, capacity)
    if document.suffix in GRAMMARS:
        return code_pieces(document.text, document.suffix, capacity)
    return plain_pieces(document.text, capacity)


def _chunk(document: Document, piece: Piece, seen: Counter[str]) -> Chunk:
    kind = "source" if document.suffix in GRAMMARS else "document"
    above = (document.module or document.path, *piece.title_path)
    functions = (
        [f"{document.module}.{name}" for name in piece.names] if document.module else list(piece.names)
    )
    return Chunk(
        id=_id(document.path, piece, seen),
        title=" > ".join(above)[:500],
        text=piece.text,
        functions=functions,
        title_path=list(piece.title_path),
        source=Source(
            package=document.package,
            version=document.version,
            path=document.path,
            line_start=piece.line_start,
            line_end=piece.line_end,
            kind=kind,
        ),
    )


def _id(path: str, piece: Piece, seen: Counter[str]) -> str:
    """Path, titles and, where that repeats, a number."""
    titles = "/".join(re.sub(r"[^\w.]+", "-", title).strip("-").lower() for title in piece.title_path)
    base = f"{path}#{titles}" if titles else path
    if len(base) > 180:
        base = f"{base[:140]}~{hashlib.sha256(base.encode()).hexdigest()[:16]}"
    seen[base] += 1
    return base if seen[base] == 1 else f"{base}~{seen[base]}"


def _ready(document: Document) -> Iterator[Chunk]:
    for row, line in enumerate(document.text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield Chunk.model_validate(json.loads(line))
        except (ValueError, ValidationError) as error:
            raise UserError(
                f"{document.path}, row {row}, is not a passage: {str(error).splitlines()[0]}",
                hint='A passage is one JSON object a line: {"id": "a1", "title": "…", "text": "…"}.',
            ) from error
