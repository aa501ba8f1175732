"""Examples in other installed packages: calls of the library with literal arguments.

Looked for in the package itself and in distributions that declare that they need it. Most calls there take variables and
cannot stand alone; the yield says so.
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

from model_training.contracts.indexes import Source
from model_training.datasets.package.examples import Mined, parse_file
from model_training.datasets.package.records import Package
from model_training.datasets.package.scope import Scope

MAX_BYTES = 300_000  # of one file; generated tables are larger
MAX_FILES = 400  # of one distribution
SKIPPED = re.compile(r"(^|/)(tests?|_vendor|vendored?|docs?|examples?|node_modules)/")


def mine_call_sites(package: Package) -> Mined:
    """Calls of public functions, files in the order of their names."""
    mined = Mined("call_site")
    for distribution, version, name, path in _files(package):
        tree = _parse_user(package, path)
        if tree is None:
            continue
        home = name.removesuffix(".py").replace("/", ".")
        scope = Scope(package, home=home)
        for statement in tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                scope.run(statement)
        source = Source(package=distribution, version=version, path=name, kind="call_site")
        _offer_calls(mined, scope, tree, source)
    return mined


def _offer_calls(mined: Mined, scope: Scope, tree: ast.Module, source: Source) -> None:
    if not scope.functions and not scope.modules:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_ours(node.func, scope):
            mined.offer(
                scope,
                node,
                None,
                source.model_copy(update={"line_start": node.lineno, "line_end": node.end_lineno}),
            )


def _is_ours(function: ast.expr, scope: Scope) -> bool:
    if isinstance(function, ast.Name):
        return function.id in scope.functions
    while isinstance(function, ast.Attribute):
        function = function.value
    return isinstance(function, ast.Name) and function.id in scope.modules


def _parse_user(package: Package, path: Path) -> ast.Module | None:
    """The tree of a file that names the package, None of others."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    names = "|".join(map(re.escape, package.imports)).encode()
    uses = re.search(rb"^[ \t]*(?:from|import)[ \t]+(?:" + names + rb")\b", content, re.MULTILINE)
    return parse_file(str(path)) if uses else None


def _files(package: Package) -> Iterator[tuple[str, str, str, Path]]:
    """Distribution, version, name and place of each file to look at."""
    for distribution in users(package):
        name, version = distribution.name, distribution.version  # each of them parses the metadata again
        files = [
            file
            for file in distribution.files or []
            if file.suffix == ".py" and not SKIPPED.search(str(file))
        ]
        for file in sorted(files, key=str)[:MAX_FILES]:
            yield name, version, file.as_posix(), Path(str(file.locate()))


def users(package: Package) -> list[importlib.metadata.Distribution]:
    """Installed distributions that need the package without an extra, by name; each once."""
    wanted = _canonical(package.distribution)
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        needs = {
            _canonical(re.split(r"[\s\[;<>=!~(]", need)[0])
            for need in distribution.requires or []
            if "extra ==" not in need
        }
        name = distribution.metadata["Name"]
        if wanted in needs and name:
            found.setdefault(_canonical(name), distribution)
    return [found[name] for name in sorted(found)]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
