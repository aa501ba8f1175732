"""Examples in docstrings: lines that start with `>>>` and what stands below them."""

from __future__ import annotations

import ast
import doctest
import inspect
from collections.abc import Iterator
from dataclasses import dataclass

from model_training.contracts.indexes import Source
from model_training.datasets.package.examples import Mined, claims, module_scope, parse_module
from model_training.datasets.package.reader import relative
from model_training.datasets.package.records import Package
from model_training.datasets.package.scope import Scope


@dataclass(frozen=True)
class DocExample:
    """A line of a docstring that starts with `>>>`; `tree` is None if it is no expression."""

    start: int
    end: int
    source: str
    want: str
    tree: ast.expr | None
    statement: ast.stmt | None


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
    """Every docstring with the module that it stands in, and its place: lines of the text itself where they are known.

    First those of public functions, classes and modules; then others that hold examples, so that the yield counts all.
    """
    written = {one.text: one for one in _written(package)}
    seen: set[str] = set()
    for doc, module, source in _public_docstrings(package):
        seen.add(doc)
        place = written.get(doc)
        lines = {"line_start": place.line, "line_end": place.line + doc.count("\n")} if place else {}
        yield doc, module, source.model_copy(update=lines)
    for doc, place in written.items():
        if ">>>" in doc and doc not in seen:
            source = Source(
                package=package.name,
                version=package.version,
                path=relative(place.path, package.roots),
                line_start=place.line,
                line_end=place.line + doc.count("\n"),
            )
            yield doc, place.module, source


def _public_docstrings(package: Package) -> Iterator[tuple[str, str, Source]]:
    for function in package.functions.values():
        home = function.origin if function.origin in package.modules else function.module
        if function.doc:
            yield function.doc, home, function.source
        for method in function.methods:
            yield method.doc, home, method.source
    for module in package.modules.values():
        if module.doc and not any(part.startswith("_") for part in module.name.split(".")):
            path = relative(module.path, package.roots)
            yield module.doc, module.name, Source(package=package.name, version=package.version, path=path)


@dataclass(frozen=True)
class _Written:
    """A docstring in a source file; `line` is that of its first line of text."""

    text: str
    module: str
    path: str
    line: int


def _written(package: Package) -> Iterator[_Written]:
    for module in package.modules.values():
        tree = parse_module(module.path)
        for node in ast.walk(tree) if tree and module.path else []:
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (
                raw := ast.get_docstring(node, clean=False)
            ):
                above = len(raw) - len(raw.lstrip("\n \t"))
                line = node.body[0].lineno + raw.count("\n", 0, above)
                yield _Written(inspect.cleandoc(raw), module.name, module.path or "", line)


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
    """Lines of an example in its file."""
    if source.line_start is None:
        return {}
    start = source.line_start + example.start
    return {"line_start": start, "line_end": max(source.line_start + example.end - 1, start)}


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
