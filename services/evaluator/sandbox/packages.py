"""Copies the packages under test to a folder of their own, compiled, without docstrings and without sources.

A docstring often shows the very example that an item asks about, so none may be in reach of an answer. What the packages
require is copied as it is. Nothing is imported here.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import marshal
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from services.evaluator import syntax

_SKIPPED = shutil.ignore_patterns("__pycache__", "*.pyc")
_MAGIC = (
    importlib.util.MAGIC_NUMBER + b"\0" * 12
)  # flags, time and size: a compiled file without source has no use for them


class PackageMissing(Exception):
    """The package is not installed where answers are graded; the message names it."""


@dataclass(frozen=True)
class Place:
    """A top-level package or module on disk."""

    name: str
    path: Path


def copy_packages(names: tuple[str, ...], target: Path, *, keep_sources: bool = False) -> None:
    """Make `target` a folder that `names` can be imported from. Raises PackageMissing, and then makes nothing."""
    places = [place for name in names for place in find(name)]
    target.mkdir(parents=True)
    for place in places:
        _copy(place, target, strip=not keep_sources)
    done = {place.name for place in places}
    for place in _requirements(names):
        if place.name not in done:
            done.add(place.name)
            _copy(place, target, strip=False)


def find(name: str) -> list[Place]:
    """Where a top-level package lies; several places for a namespace package. Raises PackageMissing."""
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise PackageMissing(name)
    if spec.submodule_search_locations is not None:
        return [Place(name, Path(folder)) for folder in spec.submodule_search_locations]
    if spec.origin in (None, "built-in", "frozen"):
        return []
    return [Place(name, Path(str(spec.origin)))]


def _copy(place: Place, target: Path, *, strip: bool) -> None:
    to = target / place.path.name
    if place.path.is_dir():
        shutil.copytree(place.path, to, ignore=_SKIPPED, copy_function=_link, dirs_exist_ok=True)
    else:
        _link(str(place.path), str(to))
    if strip:
        for source in [to] if to.is_file() else sorted(to.rglob("*.py")):
            _compile_without_docs(source)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:
        shutil.copy2(source, target)


def _compile_without_docs(source: Path) -> None:
    if source.suffix != ".py":
        return
    try:
        tree = syntax.parse(source.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                _empty_docstring(node)
        code = compile(tree, source.name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return  # a template or a file for another Python: it cannot be imported either way
    source.with_suffix(".pyc").write_bytes(_MAGIC + marshal.dumps(code))
    source.unlink()


def _empty_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    # Emptied and not removed: packages that format or extend their docstrings at import find a text.
    first = node.body[0] if node.body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        first.value.value = ""


def _requirements(names: tuple[str, ...]) -> list[Place]:
    """What the packages' distributions require, directly or not, without extras."""
    if not names:
        return []
    owners = importlib.metadata.packages_distributions()
    waiting = [owner for name in names for owner in owners.get(name, [])]
    seen: set[str] = set()
    places: list[Place] = []
    while waiting:
        normal = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if normal in seen:
            continue
        seen.add(normal)
        try:
            distribution = importlib.metadata.distribution(normal)
        except importlib.metadata.PackageNotFoundError:
            continue  # required on other systems only, or an extra
        waiting += [_requirement_name(text) for text in distribution.requires or [] if "extra ==" not in text]
        places += _top_level(distribution)
    return places


def _requirement_name(text: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", text)
    return found.group() if found else text


def _top_level(distribution: importlib.metadata.Distribution) -> list[Place]:
    tops = {Path(str(file)).parts[0] for file in distribution.files or []}
    places: list[Place] = []
    for top in sorted(tops):
        name = top.removesuffix(".py")
        path = Path(str(distribution.locate_file(top)))
        is_module = name.isidentifier() and name != "__pycache__"
        if (is_module or top.endswith((".so", ".libs"))) and path.exists():
            places.append(Place(name, path))
    return places
