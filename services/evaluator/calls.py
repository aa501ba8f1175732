"""Looks at the text of an expression before it runs: does it call the library, and does it keep to what an answer may do?

This tells honest mistakes and copied values from answers. It is not what keeps the host safe; the sandbox is.
"""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass
from typing import Any

from services.evaluator import syntax
from services.evaluator.domain import Status, same

_BUILTINS = frozenset(dir(builtins))
_FORBIDDEN_NAMES = frozenset(
    ["__import__", "breakpoint", "compile", "delattr", "eval", "exec", "exit", "globals", "help", "input"]
).union(["locals", "open", "quit", "setattr", "vars"])
_ALLOWED_DUNDERS = frozenset(
    ["__name__", "__len__", "__iter__", "__next__", "__getitem__", "__contains__", "__call__", "__wrapped__"]
)
_FRAME_ATTRIBUTES = (
    "gi_frame",
    "cr_frame",
    "ag_frame",
    "tb_frame",
    "f_back",
    "f_globals",
    "f_locals",
    "f_builtins",
)


@dataclass(frozen=True)
class Refusal:
    """Why an expression is not run, or its value not accepted."""

    status: Status
    reason: str


def check_expression(
    tree: ast.Expression, names: dict[str, str], package: str, must_call: str | None
) -> Refusal | None:
    """Refuse what is no answer. `names` are those that `bound_names` found."""
    for node in ast.walk(tree):
        name = _forbidden(node)
        if name:
            return Refusal("forbidden", f"the answer uses `{name}`, which an answer may not")
    if not _reaches(tree, names, package, must_call):
        wanted = f"`{must_call}`" if must_call else f"a function of `{package}`"
        return Refusal("not_called", f"the answer does not call {wanted}")
    return None


def _forbidden(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id if node.id in _FORBIDDEN_NAMES else None
    if isinstance(node, ast.Attribute):
        is_dunder = node.attr.startswith("__") and node.attr not in _ALLOWED_DUNDERS
        return node.attr if is_dunder or node.attr in _FRAME_ATTRIBUTES else None
    return None


def bound_names(statements: list[str], package: str) -> dict[str, str]:
    """Names that the statements bind to the package or to something made with it, with what they stand for.

    `*` is a key where a star import makes every name possible.
    """
    names: dict[str, str] = {}
    for statement in statements:
        for node in syntax.parse(statement).body:
            _bind(node, package, names)
    return names


def _bind(node: ast.stmt, package: str, names: dict[str, str]) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] == package:
                names[alias.asname or package] = alias.name if alias.asname else package
    elif isinstance(node, ast.ImportFrom):
        if node.module and node.module.split(".")[0] == package:
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    elif any(isinstance(inner, ast.Name) and inner.id in names for inner in ast.walk(node)):
        made = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        defined = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []
        names.update(dict.fromkeys([*made, *defined], package))


def _reaches(tree: ast.AST, names: dict[str, str], package: str, must_call: str | None) -> bool:
    """Whether the expression names the function; whether it was entered is what the tracer tells."""
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    if not any(_stands_for_package(node.id, names) for node in uses):
        return False
    if must_call is None:
        return any(isinstance(node, ast.Call) for node in ast.walk(tree))
    last = must_call.rsplit(".", 1)[-1]
    named = any(names.get(node.id, node.id).rsplit(".", 1)[-1] == last for node in uses)
    # A name made in the setup may hide the function: `chunk = partial(chunked, n=2)`.
    hidden = any(names.get(node.id) == package for node in uses)
    return named or hidden or any(isinstance(n, ast.Attribute) and n.attr == last for n in ast.walk(tree))


def copies_value(tree: ast.Expression, expected: Any, names: dict[str, str]) -> bool:
    """Whether the wanted value is written out in the answer, outside of what it hands to the library.

    Short values (a number, a flag, an empty list) stand in honest answers too and are not looked at.
    """
    if (
        not isinstance(expected, (list, tuple, set, dict, str, bytes))
        or len(expected) < (1, 3)[isinstance(expected, str)]
    ):
        return False
    waiting: list[ast.AST] = [tree.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call) and _is_of_package(node.func, names):
            waiting.append(node.func)
            continue
        if _writes(node, expected):
            return True
        waiting.extend(ast.iter_child_nodes(node))
    return False


def _is_of_package(node: ast.AST, names: dict[str, str]) -> bool:
    while isinstance(node, (ast.Attribute, ast.Call)):
        node = node.value if isinstance(node, ast.Attribute) else node.func
    return isinstance(node, ast.Name) and _stands_for_package(node.id, names)


def _stands_for_package(name: str, names: dict[str, str]) -> bool:
    return name in names or ("*" in names and name not in _BUILTINS)


def _writes(node: ast.AST, expected: Any) -> bool:
    if not isinstance(node, (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Constant)):
        return False
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    if isinstance(expected, (list, tuple, set)) and isinstance(value, (list, tuple, set)):
        return same(list(value), list(expected))
    return same(value, expected)
