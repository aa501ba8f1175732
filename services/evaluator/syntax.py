"""Python's parser, one thread at a time.

CPython 3.11 counts the depth of a tree in a variable that all threads share: two that parse at once make each other fail
with `SystemError: AST constructor recursion depth mismatch`. Everything here that parses goes through this module.
"""

from __future__ import annotations

import ast
import threading
import warnings
from typing import Any

_LOCK = threading.Lock()


def parse(source: str | bytes) -> ast.Module:
    """The tree of a module. Raises SyntaxError, ValueError (null bytes), RecursionError or MemoryError (too deep)."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an answer's odd escape is no news
        return ast.parse(source)


def literal(source: str) -> Any:
    """The value of a Python literal. Raises ValueError and what `parse` raises."""
    with _LOCK:
        return ast.literal_eval(source)


def check(source: str) -> None:
    """Raise what `parse` raises, and what compiling finds beyond it (a `return` outside a function, say)."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compile(source, "<answer>", "exec", dont_inherit=True)
