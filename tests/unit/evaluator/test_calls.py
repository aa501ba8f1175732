"""What an expression's text gives away before it runs."""

from __future__ import annotations

import ast

import pytest

from services.evaluator.calls import bound_names, check_expression, copies_value

IMPORTS = ["from more_itertools import chunked, first", "import more_itertools as mi", "import json"]


def refusal(text: str, must_call: str | None = None, setup: list[str] | None = None) -> str | None:
    names = bound_names([*IMPORTS, *(setup or [])], "more_itertools")
    found = check_expression(ast.parse(text, mode="eval"), names, "more_itertools", must_call)
    return found.status if found else None


@pytest.mark.parametrize(
    "text",
    [
        "list(chunked([1], 1))",
        "mi.chunked([1], 1)",
        "list(map(first, [[1]]))",
        "sorted(first(x) for x in mi.chunked('ab', 1))",
        "[f.__name__ for f in [chunked]][0] + str(chunked([], 1))",
    ],
)
def test_use_of_the_library_is_accepted(text: str) -> None:
    assert refusal(text) is None


@pytest.mark.parametrize(
    "text", ["[[1]]", "json.loads('[1]')", "list(range(3))", "chunks([1], 1)", "chunked", "'chunked(1)'"]
)
def test_no_call_of_the_library(text: str) -> None:
    assert refusal(text) == "not_called"


def test_the_named_function_is_wanted() -> None:
    assert refusal("first([[1]])", "more_itertools.chunked") == "not_called"
    assert refusal("mi.more.chunked([1], 1)", "more_itertools.chunked") is None
    assert (
        refusal("cut([1])", "chunked", ["from functools import partial", "cut = partial(chunked, n=1)"])
        is None
    )
    assert refusal("tool.peek()", "more_itertools.peekable.peek", ["tool = mi.peekable([1])"]) is None


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')._exit(0)",
        "eval('1')",
        "open('/etc/passwd')",
        "chunked.__globals__",
        "().__class__.__base__.__subclasses__()",
        "(x for x in chunked([], 1)).gi_frame.f_back",
    ],
)
def test_forbidden(text: str) -> None:
    assert refusal(text) == "forbidden"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[1], [2]]", [[1], [2]]),
        ("(first([0]), [[1], [2]])[1]", [[1], [2]]),
        ("list(((1,), (2,))) or chunked", [(1,), (2,)]),
        ("first([1]) and 'abcdef'", "abcdef"),
        ("{'a': 1} if chunked([], 1) else 0", {"a": 1}),
    ],
)
def test_a_copied_value_is_seen(text: str, expected: object) -> None:
    names = bound_names(IMPORTS, "more_itertools")
    assert copies_value(ast.parse(text, mode="eval"), expected, names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("list(chunked([1, 2], 1))", [[1], [2]]),
        ("list(mi.unique_everseen([1, 2]))", [1, 2]),
        ("first([1]) == 1 or True", True),
        ("list(chunked([], 1)) or []", []),
    ],
)
def test_honest_arguments_are_no_copy(text: str, expected: object) -> None:
    names = bound_names(IMPORTS, "more_itertools")
    assert not copies_value(ast.parse(text, mode="eval"), expected, names)
