"""Examples in a package's own tests: what an `assert` or `assertEqual` says about one call.

Many wheels ship no tests; those of an editable install are found beside the package.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

from model_training.contracts.indexes import Source
from model_training.datasets.package.examples import Mined, mine_statements, parse_file
from model_training.datasets.package.reader import relative
from model_training.datasets.package.records import Package
from model_training.datasets.package.scope import Scope

MAX_CASES = 20  # of one parametrised test
FOLDERS = ("tests", "test")


def mine_tests(package: Package) -> Mined:
    """Examples of all test functions, files in the order of their names."""
    mined = Mined("test")
    for path in test_files(package):
        tree = parse_file(str(path))
        if tree is None:
            continue
        name = relative(str(path), package.roots) or path.name
        scope = Scope(package, home=name.removesuffix(".py").replace("/", "."))
        source = Source(package=package.name, version=package.version, path=name, kind="test")
        for statement in tree.body:
            scope.run(statement)
        for function in _test_functions(tree):
            for case in _cases(function, scope):
                mine_statements(mined, case, _straight(function.body), source)
    return mined


def test_files(package: Package) -> list[Path]:
    """Test files inside the package, or beside it where it is installed from a working copy."""
    found: set[Path] = set()
    for name in package.imports:
        for root in package.roots:
            found.update(_below(Path(root, name)))
    for root in map(Path, package.roots):
        if root.name in {"site-packages", "dist-packages"}:
            continue
        for home in (root, root.parent if root.name == "src" else root):
            for folder in FOLDERS:
                found.update(_below(home / folder))
    return sorted(found)


def _below(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for directory, names, files in os.walk(folder):
        names[:] = sorted(
            name
            for name in names
            if not name.startswith((".", "__")) and name not in {"node_modules", "_vendor"}
        )
        for file in files:
            if file.endswith(".py") and (file.startswith("test_") or file.endswith("_test.py")):
                yield Path(directory, file)


def _test_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            yield node


def _straight(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements with the bodies of `with` blocks in their place; what may not run or run often is left out."""
    for statement in body:
        if isinstance(statement, ast.With):
            raises = any("raises" in ast.unparse(item.context_expr) for item in statement.items)
            yield from () if raises else _straight(statement.body)
        else:
            yield statement


def _cases(function: ast.FunctionDef, scope: Scope) -> Iterator[Scope]:
    """One scope for each case of a parametrised test; one for a test without cases."""
    for decorator in function.decorator_list:
        match decorator:
            case ast.Call(
                func=ast.Attribute(attr="parametrize"), args=[names, ast.List() | ast.Tuple() as cases, *_]
            ):
                yield from _parametrised(names, cases.elts[:MAX_CASES], scope)
                return
            case _:
                continue
    yield scope.copy()


def _parametrised(names: ast.expr, cases: list[ast.expr], scope: Scope) -> Iterator[Scope]:
    try:
        spelled = ast.literal_eval(names)
    except (ValueError, TypeError):
        return
    arguments = [one.strip() for one in spelled.split(",")] if isinstance(spelled, str) else list(spelled)
    for case in cases:
        values = [case]
        match case:
            case ast.Call(func=ast.Attribute(attr="param"), args=inner):
                values = inner
            case ast.Tuple(elts=inner) | ast.List(elts=inner) if len(arguments) > 1:
                values = inner
            case _:
                pass
        if len(values) != len(arguments):
            continue
        local = scope.copy()
        for name, value in zip(arguments, values, strict=True):
            local.run(
                ast.Assign(targets=[ast.Name(id=name, ctx=ast.Store())], value=value, lineno=case.lineno)
            )
        yield local
