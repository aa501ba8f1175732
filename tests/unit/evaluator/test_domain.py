"""Equality of values: strict in types, tolerant in floats, blind to the order of sets and dictionaries only."""

from __future__ import annotations

import math

import pytest

from services.evaluator.domain import read_expected, same, show
from services.evaluator.sandbox.codec import Items


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1 + 0.2, 0.3),
        ([1e-12], [0.0]),
        (math.inf, math.inf),
        (math.nan, math.nan),
        ({"a": 1, "b": [2.0]}, {"b": [2.0], "a": 1}),
        ({(1, True), (2, False)}, {(2, False), (1, True)}),
        (Items((1, [2])), [1, [2]]),
        ([Items(())], [[]]),
        (1 + 1e-12j, 1 + 0j),
    ],
)
def test_same(value: object, expected: object) -> None:
    assert same(value, expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, True),
        (1, 1.0),
        (0, False),
        ([1], (1,)),
        ({1}, {True}),
        ({1: "a"}, {True: "a"}),
        ({1: "a"}, {1.0: "a"}),
        (frozenset({1}), {1}),
        ("1", 1),
        (b"a", "a"),
        ([1, 2], [2, 1]),
        ([1], [1, 1]),
        ({"a": 1}, {"a": 1, "b": 2}),
        (Items((1,)), (1,)),
        (Items((1,)), {1}),
        (math.inf, -math.inf),
        (math.nan, 0.0),
        (1.0, 1.000001),
        (None, False),
    ],
)
def test_not_same(value: object, expected: object) -> None:
    assert not same(value, expected)


@pytest.mark.parametrize("text", ["__import__('os')", "[1, 2", "x", "1 +", "(" * 500, "list()"])
def test_expected_must_be_a_literal(text: str) -> None:
    with pytest.raises(ValueError, match="no Python literal"):
        read_expected(text)


def test_long_values_are_shortened() -> None:
    assert len(show(list(range(1000)))) == 120
    assert show(Items((1, 2))) == "an iterator over [1, 2]"
