"""Examples in docstrings: lines that start with `>>>` and what stands below them."""

from __future__ import annotations

import ast
import doctest
from collections.abc import Iterator
from dataclasses import dataclass

from model_training.contracts.indexes import Source
from model_training.datasets.package.examples import Mined, claims, module_scope
from model_training.datasets.package.records import Function, Package
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
