"""What crosses the pipe: every plain value unchanged, nothing else, and never more than the bounds."""

from __future__ import annotations

import enum
import itertools
import re
import socket
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.evaluator.domain import same
from services.evaluator.sandbox import codec

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=50)
    | st.complex_numbers()
)
hashable = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
plain = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(hashable, max_size=4)
        | st.dictionaries(hashable, inner, max_size=4)
    ),
    max_leaves=20,
)


def over_the_wire(value: object) -> object:
    """Encode, frame, unframe and decode."""
    frame = codec.dumps({"value": codec.encode(value)})
    return codec.decode(codec.loads(frame[4:])["value"])


@settings(max_examples=60, deadline=None)
@given(plain)
def test_round_trip_keeps_value_and_types(value: object) -> None:
    back = over_the_wire(value)
    assert repr(back) == repr(value) or same(back, value)
    assert type(back) is type(value)


@settings(max_examples=60, deadline=None)
@given(plain, plain)
def test_different_values_stay_different(a: object, b: object) -> None:
    assert same(over_the_wire(a), b) == same(a, b)


Point = namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 1


class Shout(str):
    def __str__(self) -> str:
        return "LOUD"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Point(1, 2), (1, 2)),
        (Colour.RED, 1),
        (Shout("quiet"), "quiet"),
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(list, {"a": [1]}), {"a": [1]}),
        (bytearray(b"ab"), b"ab"),
    ],
)
def test_subclasses_travel_as_their_base(value: object, expected: object) -> None:
    back = over_the_wire(value)
    assert back == expected
    assert type(back) is type(expected)


@pytest.mark.parametrize(
    "value",
    [iter([1, 2]), range(1, 3), deque([1, 2]), {1: 0, 2: 0}.keys(), (n for n in (1, 2)), map(int, "12")],
)
def test_what_gives_items_travels_as_items(value: object) -> None:
    assert over_the_wire(value) == codec.Items((1, 2))


class Yes:
    """Claims to equal everything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "value", [object(), Yes(), Decimal(1), Fraction(1, 2), len, int, [Yes()], {1: Yes()}]
)
def test_other_objects_do_not_cross(value: object) -> None:
    with pytest.raises(codec.NotPlain):
        codec.encode(value)


def test_objects_cross_as_their_truth_where_a_test_asks() -> None:
    found = codec.decode(codec.encode([re.match("a", "a"), Yes()], opaque=True))
    assert [bool(one) for one in found] == [True, True]
    assert found[0] != found[1]
    assert found[0].kind == "Match"
    assert found[1] != 1


def deep(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        itertools.count(),
        itertools.repeat("x" * 1000),
        [0] * (codec.MAX_NODES + 1),
        "x" * codec.MAX_BYTES,
        10**5000,
        deep(codec.MAX_DEPTH + 2),
    ],
    ids=["count", "repeat", "nodes", "text", "digits", "depth"],
)
def test_too_much_is_refused_early(value: object) -> None:
    with pytest.raises(codec.TooLong):
        codec.encode(value)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    )
)
def test_any_json_is_decoded_or_refused(form: object) -> None:
    try:
        codec.decode(form)
    except codec.Malformed:
        return


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"1e999"])
def test_broken_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(codec.Malformed):
        codec.loads(body)


def test_a_frame_that_claims_to_be_huge_is_refused() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\xff\xff\xff\xff")
        with pytest.raises(codec.Malformed):
            codec.receive(ours)
