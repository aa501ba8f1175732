"""Notes whether a function of the package under test was entered. Runs in the process of the answer.

It tells a real call from a copied value; it is no defence against a program that attacks it (see the decision record on
grading for what is left to such a program).
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType
from typing import Any, cast


class CallTracer:
    """`called` is True after a call of `must_call`, or of anything in `package`; None where it cannot be seen."""

    def __init__(self, package: str, must_call: str | None) -> None:
        self._package = package
        self._codes: set[CodeType] = set()
        self._builtins: list[object] = []
        self._any = must_call is None
        self.called: bool | None = False
        if must_call is not None:
            self._collect(_resolve(package, must_call))
            if not self._codes and not self._builtins:
                self.called = None

    def start(self) -> None:
        """Begin to watch; the watch ends with the first hit, so that it costs little."""
        if self.called is False:
            sys.setprofile(self._note)

    def stop(self) -> None:
        """End the watch."""
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            hit = (
                self._in_package(frame.f_globals.get("__name__"))
                if self._any
                else frame.f_code in self._codes
            )
        elif event == "c_call":
            home = getattr(argument, "__module__", None)
            hit = self._in_package(home) if self._any else any(argument is one for one in self._builtins)
        else:
            return
        if hit:
            self.called = True
            sys.setprofile(None)

    def _in_package(self, module: object) -> bool:
        return isinstance(module, str) and module.split(".")[0] == self._package

    def _collect(self, target: object, depth: int = 0) -> None:
        if target is None or depth > 6:
            return
        if isinstance(target, FunctionType):
            self._codes.add(target.__code__)
        elif isinstance(target, type):
            for name in ("__init__", "__new__"):
                self._collect_member(target, name, depth)
        elif isinstance(target, property):
            self._collect(target.fget, depth + 1)
        elif isinstance(target, (functools.partial, functools.partialmethod)):
            self._collect(cast("object", target.func), depth + 1)
        elif type(target).__name__ in ("builtin_function_or_method", "method_descriptor"):
            self._builtins.append(target)
        for name in ("__wrapped__", "__func__", "func"):
            if not isinstance(target, type):
                self._collect(_quiet_attribute(target, name), depth + 1)

    def _collect_member(self, owner: type, name: str, depth: int) -> None:
        for base in owner.__mro__[:-1]:
            member = vars(base).get(name)
            if member is not None:
                return self._collect(getattr(member, "__func__", member), depth + 1)


def _quiet_attribute(target: object, name: str) -> object:
    try:
        return getattr(target, name, None)
    except Exception:
        return None


def _resolve(package: str, dotted: str) -> object:
    """The object behind `package.module.Class.method`; a plain name is looked for in the package."""
    full = dotted if dotted.split(".")[0] == package else f"{package}.{dotted}"
    parts = full.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        get: Callable[[object, str], object] = _quiet_attribute
        return functools.reduce(get, parts[end:], value)
    return None
