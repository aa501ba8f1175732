"""What all miners of examples share: a candidate is an expression that stands alone, or there is a reason why not.

The miners are `doctests`, `installed_tests`, `readme` and `call_sites`. Nothing is run here.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from model_training.contracts.indexes import Source
from model_training.datasets.package.calls import call_key
from model_training.datasets.package.records import Candidate, Package
from model_training.datasets.package.scope import Scope, Unresolved, standard_imports


@dataclass
class Mined:
    """What one kind of source gave: examples seen, candidates among them, and why the others are none."""

    kind: str
    seen: int = 0
    candidates: list[Candidate] = field(default_factory=list[Candidate])
    dropped: Counter[str] = field(default_factory=Counter[str])

    def offer(
        self, scope: Scope, expression: ast.expr, wanted: tuple[str, str] | None, source: Source
    ) -> Candidate | None:
        """Count an example, and keep it if it can stand alone and calls one public function."""
        self.seen += 1
        try:
            candidate = make_candidate(scope, expression, wanted, source)
        except Unresolved as reason:
            self.dropped[str(reason)] += 1
            return None
        self.candidates.append(candidate)
        return candidate


def make_candidate(
    scope: Scope, expression: ast.expr, wanted: tuple[str, str] | None, source: Source
) -> Candidate:
    """A candidate from an expression of an example.

    Raises:
        Unresolved: if it cannot stand alone, calls no public function, or more than one.
    """
    resolved = scope.resolve(expression)
    if not resolved.functions:
        raise Unresolved("calls no public function")
    qualified, *others = resolved.functions
    if others:
        raise Unresolved("calls several public functions")
    function = scope.package.functions[qualified]
    key = call_key(resolved.tree, function.name, whole=function.kind == "class")
    if key is None:
        raise Unresolved("names a function without calling it")
    return Candidate(function.qualified, resolved.text, resolved.imports, wanted, key, source)


def module_scope(package: Package, module: str) -> Scope:
    """The names that code inside a module sees: the package's own functions and what the module imports."""
    scope = Scope(package)
    if found := package.modules.get(module):
        scope.functions.update(found.names)
        scope.imports.update(_standard_imports(found.path))
    for name in package.imports:
        scope.modules[name] = name
    return scope


@lru_cache(maxsize=256)
def _standard_imports(path: str | None) -> dict[str, str]:
    """Names that a file imports from the standard library, with the statement that does."""
    found: dict[str, str] = {}
    for node in ast.walk(parse_module(path) or ast.Module([], [])):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.update(standard_imports(node))
    return found


@lru_cache(maxsize=128)
def parse_module(path: str | None) -> ast.Module | None:
    """As `parse_file`, for the package's own modules, which are read several times."""
    return parse_file(path)


def parse_file(path: str | None) -> ast.Module | None:
    """A source file's tree; None if it is missing, unreadable or no valid Python."""
    if path is None or not path.endswith(".py"):
        return None
    try:
        with open(path, "rb") as file:
            return ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


EQUALITIES = frozenset(
    {"assertEqual", "assertEquals", "assertListEqual", "assertSequenceEqual", "assertDictEqual"}
)


def claims(statement: ast.stmt, scope: Scope | None = None) -> Iterator[tuple[ast.expr, tuple[str, str]]]:
    """What a statement says about values: `assert f(x) == y`, `self.assertEqual(f(x), y)`, `f(x) == y`."""
    tree = statement.test if isinstance(statement, ast.Assert) else getattr(statement, "value", None)
    match tree:
        case ast.Call(func=ast.Attribute(attr=name), args=[actual, expected, *_]) if name in EQUALITIES:
            yield from _equal([_known(actual, scope), _known(expected, scope)])
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is()], comparators=[right]):
            yield from _equal([_known(left, scope), _known(right, scope)])
        case _:
            return


def _known(side: ast.expr, scope: Scope | None) -> ast.expr:
    """What a bare name stands for, where the scope knows it."""
    value = scope.values.get(side.id) if scope and isinstance(side, ast.Name) else None
    return value.tree if value else side


def _equal(sides: list[ast.expr]) -> Iterator[tuple[ast.expr, tuple[str, str]]]:
    """The side that is computed and the literal that it equals."""
    for actual, expected in (sides, sides[::-1]):
        text = literal_text(expected)
        if text is not None and literal_text(actual) is None:
            yield actual, ("literal", text)
            return


def literal_text(tree: ast.expr) -> str | None:
    """The source of a literal, None for anything else."""
    try:
        ast.literal_eval(tree)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return ast.unparse(tree)


def mine_statements(
    mined: Mined, scope: Scope, body: Iterable[ast.stmt], source: Source, above: int | None = 0
) -> None:
    """Offer every claim among statements that run in order; assignments, imports and helpers feed the scope.

    `above` is how many lines stand above the first; None keeps the lines of `source`.
    """
    for statement in body:
        at = source
        if above is not None:
            last = statement.end_lineno or statement.lineno
            at = source.model_copy(update={"line_start": statement.lineno + above, "line_end": last + above})
        for actual, wanted in claims(statement, scope):
            mined.offer(scope, actual, wanted, at)
        scope.run(statement)
