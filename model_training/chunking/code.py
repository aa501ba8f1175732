"""Source code by its syntax tree (tree-sitter): a function or class is a passage, a large class one for each method."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import tree_sitter
from semantic_text_splitter import CodeSplitter

from model_training.chunking.pieces import Piece, plain_pieces, shortened

GRAMMARS = {
    ".py": ("tree_sitter_python", "language"),
    ".pyi": ("tree_sitter_python", "language"),
    ".js": ("tree_sitter_javascript", "language"),
    ".jsx": ("tree_sitter_javascript", "language"),
    ".ts": ("tree_sitter_typescript", "language_typescript"),
    ".tsx": ("tree_sitter_typescript", "language_tsx"),
    ".go": ("tree_sitter_go", "language"),
    ".rs": ("tree_sitter_rust", "language"),
    ".java": ("tree_sitter_java", "language"),
    ".c": ("tree_sitter_c", "language"),
    ".h": ("tree_sitter_c", "language"),
    ".cpp": ("tree_sitter_cpp", "language"),
}
"""Python's grammar comes with the `data` extra; the others are used where they are installed."""

LEAST = 30
"""Characters; what is shorter and defines nothing (`__all__ =`, a bracket that a cut left) is found by chance alone."""

WRAPPERS = frozenset({"decorated_definition", "export_statement"})
SMALL_SHARE = 6
"""A definition below this part of the capacity joins its neighbours."""


@dataclass(frozen=True)
class _Unit:
    """Bytes from `start` to `end` that stay together; `name` where it is a definition, `head` where it is a class's."""

    start: int
    end: int
    path: tuple[str, ...]
    name: str | None
    head: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


def code_pieces(text: str, suffix: str, capacity: int) -> Iterator[Piece]:
    """The definitions of a file with the names around them; without a grammar, pieces by blank lines."""
    language = _language(suffix)
    if language is None:
        yield from plain_pieces(text, capacity)
        return
    data = text.encode()
    grammar = tree_sitter.Language(language)  # pyright: ignore[reportDeprecated] (a capsule, typed as a number)
    tree = tree_sitter.Parser(grammar).parse(data)
    splitter = CodeSplitter(language, capacity)
    units = list(_units(tree.root_node, 0, len(data), (), capacity))
    for group in _joined(units, capacity):
        for piece in shortened(_piece(data, group), capacity, splitter):  # pyright: ignore[reportArgumentType]
            if piece.names or len(piece.text.strip()) >= LEAST:
                yield piece


@lru_cache
def _language(suffix: str) -> Any:
    if suffix not in GRAMMARS:
        return None
    module, function = GRAMMARS[suffix]
    try:
        return getattr(importlib.import_module(module), function)()
    except ImportError:
        return None


def _units(node: Any, start: int, end: int, path: tuple[str, ...], capacity: int) -> Iterator[_Unit]:
    """The parts of a node between two bytes, in order and without gaps: definitions, and what lies between them."""
    at = start
    for child in node.children:
        definition = _definition(child)
        if definition is None:
            continue
        name = definition.child_by_field_name("name").text.decode()
        begin = _line_start(node, child, at)
        if begin > at:
            yield _Unit(at, begin, path, None, head=at == start and bool(path))
        body = definition.child_by_field_name("body")
        if child.end_byte - begin > capacity and body is not None and _has_definitions(body):
            yield from _units(body, begin, child.end_byte, (*path, name), capacity)
        else:
            yield _Unit(begin, child.end_byte, path, name)
        at = child.end_byte
    if at < end:
        yield _Unit(at, end, path, None)


def _definition(node: Any) -> Any:
    """The definition that a node is or wraps, None for other nodes."""
    if node.type in WRAPPERS:
        return next((found for child in node.children if (found := _definition(child)) is not None), None)
    named = node.child_by_field_name("name") is not None and node.child_by_field_name("body") is not None
    return node if named else None


def _has_definitions(body: Any) -> bool:
    return any(_definition(child) is not None for child in body.children)


def _line_start(node: Any, child: Any, least: int) -> int:
    """Where the child's line begins, and comments right above it; not before `least`."""
    begin, row = child.start_byte, child.start_point[0]
    before = child.prev_sibling
    while before is not None and before.type == "comment" and before.end_point[0] >= row - 1:
        begin, row = before.start_byte, before.start_point[0]
        before = before.prev_sibling
    return max(least, begin)


def _joined(units: Sequence[_Unit], capacity: int) -> Iterator[list[_Unit]]:
    """Neighbours of one scope together while they fit; a definition of some size stands alone."""
    group: list[_Unit] = []
    for unit in units:
        alone = unit.name is not None and unit.size > capacity // SMALL_SHARE
        fits = bool(group) and group[0].path == unit.path and unit.end - group[0].start <= capacity
        was_alone = len(group) == 1 and group[0].name is not None and group[0].size > capacity // SMALL_SHARE
        if group and (alone or was_alone or not fits):
            yield group
            group = []
        group.append(unit)
    if group:
        yield group


def _piece(data: bytes, group: Sequence[_Unit]) -> Piece:
    start, end = group[0].start, group[-1].end
    raw = data[start:end].decode(errors="replace")
    text = raw.strip("\n")
    first = data.count(b"\n", 0, start) + 1 + len(raw) - len(raw.lstrip("\n"))
    names = tuple(
        ".".join((*unit.path, unit.name) if unit.name else unit.path)
        for unit in group
        if unit.name or unit.head
    )
    own = (group[0].name,) if len(group) == 1 and group[0].name is not None else ()
    return Piece(text, first, first + text.count("\n"), (*group[0].path, *own), names)
