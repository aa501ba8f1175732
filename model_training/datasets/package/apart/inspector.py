"""The process that imports a foreign package and tells its public names. Standard library only.

Started by file path (`python -I inspector.py`), so that nothing of ours is importable in it. It reads one JSON request
and answers with one JSON line.
"""

# pyright: basic
from __future__ import annotations

import builtins
import importlib
import inspect
import json
import os
import pkgutil
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from mt_literals import literal

SKIPPED_PARTS = {"tests", "test", "testing", "conftest", "setup", "vendor"}


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.stdin.readline())
    sys.path[:] = request["sys_path"]
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)  # what a package prints goes nowhere: our standard output is the protocol
    out.write(json.dumps(describe(request["names"])) + "\n")
    out.flush()
    os._exit(0)  # a package may have started threads that would keep us


def describe(names: list[str]) -> dict[str, Any]:
    """Public functions and classes of the import names, each under its shortest public path."""
    failed: dict[str, str] = {}
    modules: dict[str, ModuleType] = {}
    for name in names:
        load(name, modules, failed)
        if name in modules and hasattr(modules[name], "__path__"):
            walk(modules[name], modules, failed)
    found: dict[int, dict[str, Any]] = {}
    for module_name in sorted(
        modules, key=lambda name: (name.count("."), names.index(name.split(".")[0]), name)
    ):
        for name in public_names(modules[module_name], names):
            add_object(found, modules[module_name], name, names)
    paths = {key: entry["qualified"] for key, entry in found.items()}
    family = {name: module for name, module in sys.modules.items() if name.split(".")[0] in names and module}
    return {
        "functions": sorted(found.values(), key=lambda entry: entry["qualified"]),
        "modules": {name: about_module(module, paths) for name, module in sorted(family.items())},
        "failed": failed,
    }


def load(name: str, modules: dict[str, ModuleType], failed: dict[str, str]) -> None:
    """Import one module, or note in one line why it does not import."""
    try:
        modules[name] = importlib.import_module(name)
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:
        failed[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]


def walk(package: ModuleType, modules: dict[str, ModuleType], failed: dict[str, str]) -> None:
    """Import the submodules that are part of the package proper: no tests, no vendored copies."""
    for info in sorted(
        pkgutil.iter_modules(package.__path__, package.__name__ + "."), key=lambda info: info.name
    ):
        last = info.name.rsplit(".", 1)[-1]
        if last in SKIPPED_PARTS or last.startswith(("test_", "_")):
            continue
        load(info.name, modules, failed)
        if info.ispkg and info.name in modules:
            walk(modules[info.name], modules, failed)


def is_private(dotted: str) -> bool:
    """Whether a part of the path starts with an underscore."""
    return any(part.startswith("_") for part in dotted.split("."))


def public_names(module: ModuleType, family: list[str]) -> list[str]:
    """Names that the module offers: `__all__`, or what it defines itself without an underscore."""
    listed = getattr(module, "__all__", None)
    if isinstance(listed, (list, tuple)):
        return [name for name in listed if isinstance(name, str) and not name.startswith("_")]
    return [
        name
        for name in sorted(vars(module))
        if not name.startswith("_") and belongs(getattr(module, name), family)
    ]


def belongs(value: Any, family: list[str]) -> bool:
    """Whether an object was defined by one of the package's own modules."""
    home = getattr(value, "__module__", None)
    return isinstance(home, str) and home.split(".")[0] in family


def add_object(found: dict[int, dict[str, Any]], module: ModuleType, name: str, family: list[str]) -> None:
    """Note a public function or class unless a shorter path already leads to it."""
    value = getattr(module, name, None)
    if id(value) in found or not callable(value) or not belongs(value, family):
        return
    real = inspect.unwrap(value) if not inspect.isclass(value) else value
    if not (inspect.isclass(real) or inspect.isroutine(real)):
        return
    original = getattr(value, "__qualname__", None) or getattr(real, "__qualname__", name)
    doc = getattr(value, "__doc__", None)
    same = [
        entry
        for entry in found.values()
        if entry["origin"] == [value.__module__, original]
        or (doc and (entry["name"], entry["raw_doc"]) == (name, doc))
    ]
    if same or (inspect.isclass(value) and issubclass(value, BaseException)):
        return
    found[id(value)] = {
        "qualified": f"{module.__name__}.{name}",
        "module": module.__name__,
        "name": name,
        "origin": [value.__module__, original],
        "kind": "class" if inspect.isclass(value) else "function",
        **about(value),
        "methods": methods(value) if inspect.isclass(value) else [],
        "raw_doc": doc if isinstance(doc, str) else None,
    }


def about(value: Any) -> dict[str, Any]:
    """Signature, docstring and place of one object."""
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except (ValueError, TypeError):
        parameters = None
    doc = inspect.getdoc(value) if isinstance(getattr(value, "__doc__", None), str) else None
    own = vars(value).get("__doc__") if inspect.isclass(value) else doc
    path, start, end = place(value)
    return {
        "parameters": None if parameters is None else [parameter(one) for one in parameters],
        "doc": doc if own else None,
        "path": path,
        "line_start": start,
        "line_end": end,
    }


def parameter(one: inspect.Parameter) -> dict[str, Any]:
    """A parameter; `default` is None when there is none, `...` when it has no literal form."""
    default = None if one.default is one.empty else literal_or(one.default, "...")
    note = "" if one.annotation is one.empty else annotation(one.annotation)
    return {"name": one.name, "kind": one.kind.name, "default": default, "annotation": note}


def annotation(value: Any) -> str:
    """An annotation as short text."""
    text = value if isinstance(value, str) else inspect.formatannotation(value)
    return "" if " at 0x" in text else text[:120]


def literal_or(value: Any, other: str) -> str:
    """A literal as text, or `other`; strings that are markers (`__no__default__`) have no literal meaning."""
    if isinstance(value, str) and re.fullmatch(r"__\w+__", value):
        return other
    try:
        return literal(value)
    except Exception:
        return other


def methods(value: type) -> list[dict[str, Any]]:
    """The documented public methods that a class defines itself."""
    result = []
    for name, member in sorted(vars(value).items()):
        function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        function = member.fget if isinstance(member, property) else function
        if name.startswith("_") or not inspect.isfunction(inspect.unwrap(function) if function else function):
            continue
        result.append({"name": name, "property": isinstance(member, property), **about(function)})
    return [entry for entry in result if entry["doc"]]


def place(value: Any) -> tuple[str | None, int | None, int | None]:
    """File and lines of an object, as far as Python knows."""
    try:
        target = inspect.unwrap(value)
        lines, start = inspect.getsourcelines(target)
        return inspect.getsourcefile(target), max(start, 1), max(start, 1) + len(lines) - 1
    except (OSError, TypeError, ValueError):
        return place_of_methods(value)


def place_of_methods(value: Any) -> tuple[str | None, int | None, int | None]:
    """About where a class stands whose `__module__` was rewritten: the file and first line of its first method."""
    codes = (
        [one.__code__ for one in vars(value).values() if inspect.isfunction(one)]
        if inspect.isclass(value)
        else []
    )
    if not codes:
        return None, None, None
    first = min(codes, key=lambda code: code.co_firstlineno)
    return first.co_filename, first.co_firstlineno, first.co_firstlineno


def about_module(module: ModuleType, paths: dict[int, str]) -> dict[str, Any]:
    """Which public functions a module's names stand for, and whether `import *` would hide a builtin."""
    known = {name: paths[id(value)] for name, value in sorted(vars(module).items()) if id(value) in paths}
    hides = sorted(
        name
        for name in starred(module)
        if hasattr(builtins, name) and getattr(module, name, None) is not getattr(builtins, name)
    )
    return {
        "names": known,
        "hides": hides,
        "doc": inspect.getdoc(module) or "",
        "path": getattr(module, "__file__", None),
        "private": is_private(module.__name__),
    }


def starred(module: ModuleType) -> list[str]:
    """What `from module import *` brings."""
    listed = getattr(module, "__all__", None)
    return list(listed) if listed is not None else [name for name in vars(module) if not name.startswith("_")]


if __name__ == "__main__":
    main()
