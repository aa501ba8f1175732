"""Turns an expression from an example into one that stands alone.

Names from earlier lines (`data = [1, 2]`, a one-line helper, an import) are put into the expression, library functions
are called by their bare name, and what cannot be resolved is refused with a reason. What comes out is still checked by
running it.
"""

from __future__ import annotations

import ast
import builtins
import copy
import sys
from dataclasses import dataclass, field, replace

from model_training.datasets.package.records import Function, Package

REFUSED_BUILTINS = frozenset(
    {"open", "input", "exec", "eval", "compile", "exit", "quit", "globals", "locals", "vars", "dir", "id", "hash", "help",
     "breakpoint", "__import__", "memoryview", "super", "object", "print", "copyright", "credits", "license"}
)  # fmt: skip
MAX_EXPRESSION = 160  # characters


class Unresolved(Exception):
    """The expression needs something that cannot be put into it; the text is the reason, in few words."""


@dataclass(frozen=True)
class Resolved:
    """An expression that stands alone, but for imports; `functions` are the library's, outermost first."""

    tree: ast.expr
    imports: tuple[str, ...]
    functions: tuple[str, ...]

    @property
    def text(self) -> str:
        """The expression on one line."""
        return ast.unparse(self.tree)


@dataclass
class Scope:
    """The names that an example can use. `home` is the module that it stands in, which relative imports start from."""

    package: Package
    home: str = ""
    functions: dict[str, str] = field(default_factory=dict[str, str])
    modules: dict[str, str] = field(default_factory=dict[str, str])
    imports: dict[str, str] = field(default_factory=dict[str, str])
    values: dict[str, Resolved | None] = field(default_factory=dict[str, "Resolved | None"])

    def copy(self) -> Scope:
        """A scope to add local names to."""
        return replace(
            self,
            functions=dict(self.functions), modules=dict(self.modules), imports=dict(self.imports),
            values=dict(self.values),
        )  # fmt: skip

    def resolve(self, expression: ast.expr) -> Resolved:
        """The expression with every name resolved.

        Raises:
            Unresolved: if a name stands for nothing that can be put in.
        """
        worker = _Resolver(self, bound_names(expression))
        tree = ast.fix_missing_locations(worker.visit(copy.deepcopy(expression)))
        if len(ast.unparse(tree)) > MAX_EXPRESSION:
            raise Unresolved("too long")
        return Resolved(tree, tuple(sorted(worker.imports)), tuple(dict.fromkeys(worker.functions)))

    def run(self, statement: ast.stmt) -> None:
        """Take note of a statement: assignments, definitions and imports add names.

        What else changes a value (`data.append(4)`) is not followed: running the expression shows whether that mattered.
        """
        if isinstance(statement, ast.Import | ast.ImportFrom):
            self._add_import(statement)
        elif isinstance(statement, ast.FunctionDef):
            self._add_helper(statement)
        elif (
            isinstance(statement, ast.Assign)
            and len(statement.targets) == 1
            and isinstance(statement.targets[0], ast.Name)
        ):
            self._assign(statement.targets[0].id, statement.value)
        else:
            for name in stored_names(statement):
                self._hide(name)

    def _assign(self, name: str, expression: ast.expr) -> None:
        try:
            resolved = self.resolve(expression)
        except Unresolved:
            resolved = None
        self._hide(name)
        self.values[name] = resolved

    def _hide(self, name: str) -> None:
        """A new meaning that we do not know takes the place of the old one."""
        for table in (self.functions, self.modules, self.imports):
            table.pop(name, None)
        self.values[name] = None

    def _add_helper(self, definition: ast.FunctionDef) -> None:
        """A function that only returns an expression becomes a lambda."""
        self._hide(definition.name)
        body = [one for one in definition.body if not _is_docstring(one)]
        plain = (
            not definition.decorator_list and not definition.args.defaults and not definition.args.kwonlyargs
        )
        if len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None or not plain:
            return
        arguments = copy.deepcopy(definition.args)
        for one in [*arguments.posonlyargs, *arguments.args]:
            one.annotation = None
        self._assign(definition.name, ast.Lambda(args=arguments, body=body[0].value))

    def _add_import(self, statement: ast.Import | ast.ImportFrom) -> None:
        for alias in statement.names:
            name = alias.asname or alias.name.split(".")[0]
            self._hide(name)
            self.values.pop(name)
            if isinstance(statement, ast.Import) and alias.name.split(".")[0] in self.package.imports:
                self.modules[name] = alias.name if alias.asname else name
            elif isinstance(statement, ast.ImportFrom):
                module = self._absolute(statement)
                if module.split(".")[0] in self.package.imports:
                    self._import_own(module, alias.name, name)
        self.imports.update(standard_imports(statement))

    def _absolute(self, statement: ast.ImportFrom) -> str:
        """The module that a `from` import names; empty if it cannot be told."""
        if not statement.level:
            return statement.module or ""
        parents = self.home.split(".")[: -statement.level]
        return ".".join([*parents, *([statement.module] if statement.module else [])])

    def _import_own(self, module: str, what: str, name: str) -> None:
        names = self.package.modules[module].names if module in self.package.modules else {}
        if what == "*":
            self.functions.update(names)
        elif what in names:
            self.functions[name] = names[what]
        elif f"{module}.{what}" in self.package.modules:
            self.modules[name] = f"{module}.{what}"


class _Resolver(ast.NodeTransformer):
    def __init__(self, scope: Scope, bound: set[str]) -> None:
        self.scope = scope
        self.bound = bound
        self.imports: set[str] = set()
        self.functions: list[str] = []

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        path = dotted(node)
        if path and path.split(".")[0] not in self.bound and path.split(".")[0] not in self.scope.values:
            head, *rest = path.split(".")
            if head in self.scope.modules:
                return self._own(self.scope.modules[head], rest)
        self.generic_visit(node)
        return node

    def _own(self, module: str, rest: list[str]) -> ast.expr:
        """`module.function` as the bare function."""
        while len(rest) > 1 and f"{module}.{rest[0]}" in self.scope.package.modules:
            module, rest = f"{module}.{rest[0]}", rest[1:]
        names = self.scope.package.modules[module].names if module in self.scope.package.modules else {}
        if rest[0] not in names:
            raise Unresolved("private or unknown name")
        node: ast.expr = self._function(names[rest[0]])
        for attribute in rest[1:]:
            node = ast.Attribute(value=node, attr=attribute, ctx=ast.Load())
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        name = node.id
        if name in self.bound or not isinstance(node.ctx, ast.Load):
            return node
        if name in self.scope.values:
            return self._value(name)
        if name in self.scope.functions:
            return self._function(self.scope.functions[name])
        if name in self.scope.imports:
            self.imports.add(self.scope.imports[name])
            return node
        if hasattr(builtins, name) and name not in REFUSED_BUILTINS:
            return node
        raise Unresolved("refused builtin" if name in REFUSED_BUILTINS else "unresolved name")

    def _value(self, name: str) -> ast.expr:
        value = self.scope.values[name]
        if value is None:
            raise Unresolved("unresolved name")
        self.imports.update(value.imports)
        self.functions.extend(value.functions)
        return copy.deepcopy(value.tree)

    def _function(self, qualified: str) -> ast.Name:
        function: Function = self.scope.package.functions[qualified]
        if any(other != qualified and other.rsplit(".", 1)[-1] == function.name for other in self.functions):
            raise Unresolved("two functions of one name")
        self.functions.append(qualified)
        return ast.Name(id=function.name, ctx=ast.Load())


def bound_names(tree: ast.AST) -> set[str]:
    """Names that lambdas and comprehensions inside the expression bind."""
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
    return bound


def stored_names(tree: ast.AST) -> set[str]:
    """Names that a statement assigns, deletes or defines."""
    names = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }
    return names | {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` of nested attributes, None for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def standard_imports(statement: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Names that an import brings from the standard library, each with a statement that brings it alone."""
    if isinstance(statement, ast.ImportFrom):
        module = statement.module or ""
        if statement.level or module.split(".")[0] not in sys.stdlib_module_names or module == "__future__":
            return {}
        return {
            alias.asname or alias.name: ast.unparse(ast.ImportFrom(module=module, names=[alias], level=0))
            for alias in statement.names
        }
    standard = [alias for alias in statement.names if alias.name.split(".")[0] in sys.stdlib_module_names]
    return {
        alias.asname or alias.name.split(".")[0]: ast.unparse(ast.Import(names=[alias])) for alias in standard
    }


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
