"""Mines examples from what an installed package brings: doctests, tests, README blocks, and call sites.

Each becomes a `Candidate`, an expression that stands alone, or a reason why not. Nothing is run here.
"""

from __future__ import annotations

import ast
import doctest
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from model_training.contracts.indexes import Source
from model_training.datasets.package.calls import call_key
from model_training.datasets.package.records import Candidate, Function, Package
from model_training.datasets.package.scope import Scope, Unresolved


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


@dataclass(frozen=True)
class DocExample:
    """A line of a docstring that starts with `>>>`; `tree` is None if it is no expression."""

    start: int
    end: int
    source: str
    want: str
    tree: ast.expr | None
    statement: ast.stmt | None


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
    if len(resolved.functions) > 1:
        raise Unresolved("calls several public functions")
    function = scope.package.functions[resolved.functions[0]]
    key = call_key(resolved.tree, function.name, whole=function.kind == "class")
    if key is None:
        raise Unresolved("names a function without calling it")
    return Candidate(function.qualified, resolved.text, resolved.imports, wanted, key, source)


def module_scope(package: Package, module: str) -> Scope:
    """The names that code inside a module sees: the package's own functions and what the module imports."""
    scope = Scope(package)
    if found := package.modules.get(module):
        scope.functions.update(found.names)
        scope.imports.update(_imports_of(found.path, scope))
    for name in package.imports:
        scope.modules[name] = name
    return scope


def _imports_of(path: str | None, scope: Scope) -> dict[str, str]:
    tree = parse_file(path)
    probe = Scope(scope.package)
    for node in ast.walk(tree) if tree else []:
        if isinstance(node, ast.Import | ast.ImportFrom):
            probe.run(node)
    return probe.imports


def parse_file(path: str | None) -> ast.Module | None:
    """A source file's tree; None if it is missing, unreadable or no valid Python."""
    if path is None or not path.endswith(".py"):
        return None
    try:
        with open(path, "rb") as file:
            return ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


# ------------------------------------------------------------------------------------------------------------ doctests


def mine_doctests(package: Package) -> Mined:
    """Examples of all docstrings: functions, classes, their methods, and modules."""
    mined = Mined("doctest")
    scopes: dict[str, Scope] = {}
    for doc, module, source in docstrings(package):
        if module not in scopes:
            scopes[module] = module_scope(package, module)
        scope = scopes[module].copy()
        for example, wanted in _wanted_examples(doc, scope):
            tree = example.tree
            if tree is not None:
                at = source.model_copy(update={"kind": "doctest", **_lines(source, example)})
                mined.offer(scope, *unwrap(tree, wanted), at)
    return mined


def docstrings(package: Package) -> Iterator[tuple[str, str, Source]]:
    """Every docstring with the module that it stands in and its place."""
    for function in package.functions.values():
        for doc, source in _own_docs(function):
            yield doc, function.origin if function.origin in package.modules else function.module, source
    for module in package.modules.values():
        if module.doc and not any(part.startswith("_") for part in module.name.split(".")):
            path = next((f.source.path for f in package.functions.values() if f.origin == module.name), None)
            yield module.doc, module.name, Source(package=package.name, version=package.version, path=path)


def _own_docs(function: Function) -> Iterator[tuple[str, Source]]:
    if function.doc:
        yield function.doc, function.source
    for method in function.methods:
        yield method.doc, method.source


def _wanted_examples(doc: str, scope: Scope) -> Iterator[tuple[DocExample, tuple[str, str]]]:
    """Examples with a documented value, in order, while the scope takes note of all others."""
    for example in doc_examples(doc):
        if example.tree is not None and example.want:
            yield example, ("repr", example.want)
        elif example.statement is not None:
            scope.run(example.statement)


def doc_examples(doc: str) -> list[DocExample]:
    """The examples of one docstring, with their line numbers within it (from 0, end exclusive); [] if it is malformed."""
    try:
        parsed = doctest.DocTestParser().get_examples(doc)
    except ValueError:
        return []
    examples: list[DocExample] = []
    for one in parsed:
        statement = _parse_statement(one.source)
        tree = statement.value if isinstance(statement, ast.Expr) else None
        want = "" if one.exc_msg else one.want.strip("\n")
        end = one.lineno + one.source.count("\n") + one.want.count("\n")
        examples.append(DocExample(one.lineno, end, one.source, want, tree, statement))
    return examples


def _parse_statement(source: str) -> ast.stmt | None:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return None
    return body[0] if len(body) == 1 else None


def _lines(source: Source, example: DocExample) -> dict[str, int | None]:
    """Lines of an example in its file. A docstring starts on the line after `def` at the earliest; that is what we know."""
    if source.line_start is None:
        return {}
    start = min(
        source.line_start + 1 + example.start, source.line_end or source.line_start + 1 + example.start
    )
    return {"line_start": start, "line_end": start + max(example.end - example.start - 1, 0)}


# ----------------------------------------------------------------------------------------------- statements with claims


EQUALITIES = frozenset(
    {"assertEqual", "assertEquals", "assertListEqual", "assertSequenceEqual", "assertDictEqual"}
)


def claims(statement: ast.stmt) -> Iterator[tuple[ast.expr, tuple[str, str]]]:
    """What a statement says about values: `assert f(x) == y`, `self.assertEqual(f(x), y)`, `f(x) == y`."""
    tree = statement.test if isinstance(statement, ast.Assert) else getattr(statement, "value", None)
    match tree:
        case ast.Call(func=ast.Attribute(attr=name), args=[actual, expected, *_]) if name in EQUALITIES:
            yield from _equal([actual, expected])
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is()], comparators=[right]):
            yield from _equal([left, right])
        case _:
            return


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


def unwrap(tree: ast.expr, wanted: tuple[str, str]) -> tuple[ast.expr, tuple[str, str]]:
    """`print(x)` is about the text of `x`; `x == literal` that is True is about `x`."""
    match tree:
        case ast.Call(func=ast.Name(id="print"), args=[value], keywords=[]) if not isinstance(
            value, ast.Starred
        ):
            return value, ("printed", wanted[1])
        case _:
            pass
    if wanted[1].strip() == "True":
        for actual, literal in claims(ast.Expr(tree)):
            return actual, literal
    return tree, wanted


def mine_statements(
    mined: Mined, scope: Scope, body: Iterable[ast.stmt], source: Source, first_line: int = 0
) -> None:
    """Offer every claim among statements that run in order; assignments, imports and helpers feed the scope."""
    for statement in body:
        at = source.model_copy(
            update={
                "line_start": statement.lineno + first_line,
                "line_end": (statement.end_lineno or statement.lineno) + first_line,
            }
        )
        for actual, wanted in claims(statement):
            mined.offer(scope, actual, wanted, at)
        if isinstance(statement, ast.With | ast.For | ast.If | ast.Try):
            continue
        scope.run(statement)
