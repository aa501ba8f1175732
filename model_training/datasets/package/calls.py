"""Says when two calls are the same call, and finds the calls that a text contains.

The key of an example is its library call in one spelling: names bare, keyword arguments in order, quotes and spaces as
Python prints them. For a class it is the whole expression, since many examples share one constructor call.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator

MAX_CALL = 400  # characters


def call_key(tree: ast.expr, name: str, *, whole: bool) -> str | None:
    """The key of the outermost call of `name` in the expression, of the whole expression if `whole`."""
    if whole:
        return normalise(tree)
    for node in walk_outside_in(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            return normalise(node)
    return None


def normalise(tree: ast.expr) -> str:
    """The expression in one spelling."""
    return ast.unparse(_Normaliser().visit(copy.deepcopy(tree)))


def keys_in_text(text: str) -> set[str]:
    """Keys of every call that stands in a text, code or prose, with what is chained to it and around it."""
    found: set[str] = set()
    for match in re.finditer(r"(?<![\w.])(?:\w+\.)*([A-Za-z_]\w*)\(", text):
        for piece in _balanced(text, match.start(1), match.end() - 1):
            try:
                tree = ast.parse(piece, mode="eval").body
            except (SyntaxError, ValueError, MemoryError, RecursionError):
                continue
            found.add(normalise(tree))
    return found


def walk_outside_in(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, a node before what is inside it, left before right."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        yield from walk_outside_in(child)


def _balanced(text: str, start: int, opening: int) -> Iterator[str]:
    """From `start`, the text up to where the bracket closes, and again with each call, index or attribute that follows."""
    position = opening
    while position < len(text) and text[position] in "([":
        end = _closing(text, position)
        if end is None:
            return
        yield _join_lines(text[start : end + 1])
        chained = re.match(r"(?:\.[A-Za-z_]\w*)*", text[end + 1 : end + 80])
        tail = chained.group() if chained else ""
        if tail:
            yield _join_lines(text[start : end + 1 + len(tail)])
        position = end + 1 + len(tail)


def _closing(text: str, opening: int) -> int | None:
    depth, quote, index = 0, "", opening
    limit = min(len(text), opening + MAX_CALL)
    while index < limit:
        character = text[index]
        if quote:
            if character == "\\":
                index += 1
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0:
                return index
        index += 1
    return None


def _join_lines(text: str) -> str:
    """Doctest continuation marks away."""
    return re.sub(r"\n\s*(?:\.\.\.|>>>)?\s*", " ", text)


class _Normaliser(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        node.keywords.sort(key=lambda keyword: keyword.arg or "")
        return node
