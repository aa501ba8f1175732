"""Finds an installed package and reads what it offers, without importing it into this process."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from model_training.contracts.indexes import Source
from model_training.datasets.package.records import Function, Method, Module, Package, Parameter
from model_training.datasets.package.runner import import_path, spawn
from model_training.errors import UserError

IMPORT_SECONDS = 120.0


def read_package(name: str) -> Package:
    """The public functions, README and modules of an installed package, named by import name or distribution name.

    Raises:
        UserError: if it is not installed, cannot be imported, or offers nothing public.
    """
    imports, distribution = _locate(name)
    described = _inspect(name, imports)
    for one in imports:
        if one in described["failed"]:
            raise UserError(
                f"Package {one!r} is installed but importing it fails: {described['failed'][one]}.",
                hint=f'Run `python -c "import {one}"` and mend what it says.',
            )
    version = distribution.version if distribution else "unknown"
    roots = tuple(sorted({str(Path(path).parent) for path in _top_paths(imports)}))
    reader = _Reader(imports[0], version, roots)
    functions = {one["qualified"]: reader.function(one) for one in described["functions"]}
    if not functions:
        raise UserError(
            f"Package {name!r} offers no public function or class.",
            hint="Name a package whose modules define names without a leading underscore.",
        )
    modules = {key: reader.module(key, one) for key, one in described["modules"].items()}
    return Package(
        name=imports[0], distribution=distribution.name if distribution else name, version=version,
        imports=tuple(imports), roots=roots, readme=_readme(distribution), functions=functions, modules=modules,
        failed=described["failed"],
    )  # fmt: skip


def _locate(name: str) -> tuple[list[str], importlib.metadata.Distribution | None]:
    """Import names, the asked one first, and the distribution that brings them."""
    by_import = _owners(tuple(sys.path))
    wanted = name.replace("-", "_") if name.replace("-", "_") in by_import else name
    if wanted in by_import:
        names = sorted(set(by_import[wanted]))
        distribution = importlib.metadata.distribution(names[0])
    else:
        try:
            distribution = importlib.metadata.distribution(name)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            if _top_paths([name]):
                return [name], None
            raise UserError(
                f"Package {name!r} is not installed.",
                hint=f"Install it with `pip install {name}` into the environment that runs `mt`, or mend the name.",
            ) from None
    siblings = sorted(
        top for top, owners in by_import.items() if distribution.name in owners and not top.startswith("_")
    )
    siblings = [top for top in siblings if top.isidentifier() and _top_paths([top])]
    if not siblings:
        raise UserError(
            f"Package {name!r} is installed but has no module to import.",
            hint="Name a package that holds Python modules.",
        )
    first = wanted if wanted in siblings else siblings[0]
    return [first, *(top for top in siblings if top != first)], distribution


@lru_cache(maxsize=4)
def _owners(_path: tuple[str, ...]) -> Mapping[str, list[str]]:
    """Distributions by import name; reading them all takes a second, so once for each `sys.path`."""
    return importlib.metadata.packages_distributions()


def _top_paths(names: list[str]) -> list[str]:
    """Files of top-level packages and modules, found without importing them."""
    found: list[str] = []
    for name in names:
        if not name.isidentifier():
            continue
        spec = importlib.machinery.PathFinder.find_spec(name, import_path())
        if spec and spec.submodule_search_locations:
            found.append(str(next(iter(spec.submodule_search_locations))))
        elif spec and spec.origin:
            found.append(spec.origin)
    return found


def _inspect(name: str, imports: list[str]) -> dict[str, Any]:
    request = json.dumps({"sys_path": import_path(), "names": imports}) + "\n"
    with tempfile.TemporaryDirectory() as directory:
        process = spawn("inspector.py", directory)
        try:
            output, _ = process.communicate(request, timeout=IMPORT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise UserError(
                f"Package {name!r} did not import within {IMPORT_SECONDS:.0f} seconds.",
                hint=f'Run `python -c "import {imports[0]}"` to see what it waits for.',
            ) from None
    if not output:
        raise UserError(
            f"Package {name!r} ended the Python process that imported it (exit code {process.returncode}).",
            hint=f'Run `python -X faulthandler -c "import {imports[0]}"` to see why.',
        )
    return json.loads(output)


def _readme(distribution: importlib.metadata.Distribution | None) -> str:
    if distribution is None:
        return ""
    # `PackageMetadata` promises no body; the README stands below the header lines of the file.
    _, _, body = (distribution.read_text("METADATA") or "").partition("\n\n")
    return body if body.strip() else str(distribution.metadata.json.get("description", ""))


class _Reader:
    """Turns the inspector's plain values into records; paths become relative to where the package is installed."""

    def __init__(self, package: str, version: str, roots: tuple[str, ...]) -> None:
        self.package = package
        self.version = version
        self.roots = roots

    def source(self, one: dict[str, Any], kind: str = "docstring") -> Source:
        """Where something stands."""
        return Source(
            package=self.package, version=self.version, path=relative(one.get("path"), self.roots),
            line_start=one.get("line_start"), line_end=one.get("line_end"), kind=kind,
        )  # fmt: skip

    def function(self, one: dict[str, Any]) -> Function:
        """One public function or class."""
        methods = [
            Method(m["name"], _parameters(m["parameters"]), m["doc"], self.source(m), m["property"])
            for m in one["methods"]
        ]
        return Function(
            package=self.package, qualified=one["qualified"], module=one["module"], name=one["name"], kind=one["kind"],
            parameters=_parameters(one["parameters"]), doc=one["doc"], origin=one["origin"][0], source=self.source(one),
            methods=tuple(methods),
        )  # fmt: skip

    def module(self, name: str, one: dict[str, Any]) -> Module:
        """One module and what its names stand for."""
        return Module(name, one["path"], one["names"], star_safe=not one["hides"], doc=one["doc"])


def relative(path: str | None, roots: tuple[str, ...]) -> str | None:
    """A path below one of the roots as relative path, others as their last part."""
    if path is None:
        return None
    for root in roots:
        if path.startswith(root + os.sep):
            return Path(path).relative_to(root).as_posix()
    return Path(path).name


def _parameters(values: list[dict[str, Any]] | None) -> tuple[Parameter, ...] | None:
    return None if values is None else tuple(Parameter(**one) for one in values)
