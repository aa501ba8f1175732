"""Plain values over a pipe: a bounded, tagged JSON form of Python's literal types, and length-prefixed frames.

Nothing but plain values crosses: an object that claims to equal everything has no form here. Used on both sides of the
pipe, so the standard library only. The receiving side trusts no byte: sizes, depth, tags and types are checked.
"""

from __future__ import annotations

import collections
import json
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

MAX_BYTES = 1 << 20
"""Longest frame, in bytes."""
MAX_NODES = 20_000
"""Most values in one message, nested ones included. It also bounds the work that colliding hashes can cause."""
MAX_DEPTH = 50
MAX_ITEMS = 10_000
"""Most items taken from an iterator before it counts as endless."""

_TAGS: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "z"}
_LISTED = (range, collections.deque, type({}.keys()), type({}.values()), type({}.items()))


class NotPlain(Exception):
    """The value holds something that is no plain value; the message names its type."""


class TooLong(Exception):
    """The value is larger than the pipe takes."""


class Malformed(Exception):
    """The bytes received are no message of this protocol."""


@dataclass(frozen=True)
class Items:
    """What an iterator, a range or a dictionary view gave, in order."""

    values: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Opaque:
    """Stands for an object that is no plain value, where a test may ask whether it is true. It equals only itself."""

    kind: str
    is_true: bool

    def __bool__(self) -> bool:
        return self.is_true


class _Budget:
    """Counts down what one message may hold, and says whether objects may cross as `Opaque`."""

    def __init__(self, *, opaque: bool = False) -> None:
        self.opaque = opaque
        self.nodes = MAX_NODES
        self.characters = MAX_BYTES // 2

    def node(self) -> None:
        self.nodes -= 1
        if self.nodes < 0:
            raise TooLong(f"the value holds more than {MAX_NODES:,} elements")

    def text(self, length: int) -> None:
        self.characters -= length
        if self.characters < 0:
            raise TooLong(f"the value holds more than {MAX_BYTES // 2:,} characters")


def encode(value: object, *, opaque: bool = False) -> Any:
    """The tagged JSON form of a plain value. Subclasses of plain types are sent as their base type.

    Raises NotPlain for any other object unless it may cross as `opaque`, TooLong beyond the limits and for an iterator
    that does not end.
    """
    return _encode(value, _Budget(opaque=opaque), 0)


def _encode(value: object, budget: _Budget, depth: int) -> Any:
    budget.node()
    if depth > MAX_DEPTH:
        raise TooLong(f"the value is nested more than {MAX_DEPTH} levels deep")
    if value is None or value is True or value is False:
        return value
    if isinstance(value, (int, float, complex, str, bytes, bytearray)):
        return _encode_scalar(value, budget)
    if isinstance(value, dict):
        # The base type's methods are named, so that a subclass cannot show one content here and another elsewhere.
        pairs = dict.items(cast("dict[object, object]", value))
        return ["d", *([_encode(k, budget, depth + 1), _encode(v, budget, depth + 1)] for k, v in pairs)]
    for base, tag in _TAGS.items():
        if isinstance(value, base):
            items = cast("Iterator[object]", base.__iter__(value))  # type: ignore[attr-defined]
            return [tag, *(_encode(item, budget, depth + 1) for item in items)]
    if isinstance(value, _LISTED) or hasattr(type(value), "__next__"):
        return [
            "g",
            *(_encode(item, budget, depth + 1) for item in _bounded(cast("Iterable[object]", value))),
        ]
    if budget.opaque:
        return ["o", type(value).__name__[:100], bool(value)]
    raise NotPlain(type(value).__name__)


def _encode_scalar(value: int | float | complex | str | bytes | bytearray, budget: _Budget) -> Any:
    if isinstance(value, int):
        if int.bit_length(value) > 14_000:  # Python turns at most 4,300 digits into text
            raise TooLong("the value holds a number of more than 4,000 digits")
        return int.__index__(value)
    if isinstance(value, float):
        return ["f", float.__repr__(value)]
    if isinstance(value, complex):
        return ["c", float.__repr__(value.real), float.__repr__(value.imag)]
    if isinstance(value, str):
        budget.text(str.__len__(value))
        return str.__getitem__(value, slice(None))
    budget.text(2 * len(value))
    return ["b", bytes(value).hex()]


def _bounded(values: Iterable[object]) -> Iterator[object]:
    for count, value in enumerate(values):
        if count >= MAX_ITEMS:
            raise TooLong(f"the value is an iterator with more than {MAX_ITEMS:,} items")
        yield value


def decode(form: object) -> Any:
    """The plain value of a tagged form. Raises Malformed for anything that `encode` does not write."""
    try:
        return _decode(form, _Budget(), 0)
    except (TooLong, TypeError, ValueError, OverflowError) as error:
        raise Malformed(str(error)) from None


def _decode(form: object, budget: _Budget, depth: int) -> Any:
    budget.node()
    if depth > MAX_DEPTH:
        raise Malformed("nested too deep")
    if form is None or isinstance(form, (bool, int, str)):
        return form
    if not isinstance(form, list) or not form:
        raise Malformed(f"a {type(form).__name__} stands where a tagged value must stand")
    tag, *rest = cast("list[Any]", form)
    if tag == "d":
        return {_decode(k, budget, depth + 1): _decode(v, budget, depth + 1) for k, v in rest}
    if tag in ("f", "c", "b", "o"):
        return _decode_scalar(tag, rest)
    makers: dict[Any, Any] = {"l": list, "t": tuple, "s": set, "z": frozenset, "g": _items}
    if not isinstance(tag, str) or tag not in makers:
        raise Malformed("unknown tag")
    return makers[tag](_decode(item, budget, depth + 1) for item in rest)


def _items(values: Iterable[Any]) -> Items:
    return Items(tuple(values))


def _decode_scalar(tag: str, rest: list[Any]) -> Any:
    if tag == "c":
        real, imaginary = rest
        return complex(float(real), float(imaginary))
    if tag == "o":
        kind, is_true = rest
        return Opaque(str(kind), is_true is True)
    (text,) = rest
    if not isinstance(text, str):
        raise Malformed("text expected")
    return float(text) if tag == "f" else bytes.fromhex(text)


def dumps(message: dict[str, Any]) -> bytes:
    """One frame. Raises TooLong when it is larger than MAX_BYTES."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    if len(body) > MAX_BYTES:
        raise TooLong(f"the message is longer than {MAX_BYTES:,} bytes")
    return struct.pack(">I", len(body)) + body


def loads(body: bytes) -> dict[str, Any]:
    """The message in a frame's body. Raises Malformed."""
    try:
        message: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)) from None
    if not isinstance(message, dict):
        raise Malformed("no message")
    return cast("dict[str, Any]", message)


def send(channel: socket.socket, message: dict[str, Any]) -> None:
    """Write one frame."""
    channel.sendall(dumps(message))


def receive(channel: socket.socket) -> dict[str, Any] | None:
    """Read one frame; None at the end of the stream. Raises Malformed."""
    header = _read(channel, 4)
    return None if header is None else receive_body(channel, header)


def receive_body(channel: socket.socket, header: bytes) -> dict[str, Any] | None:
    """Read the rest of a frame whose first four bytes are `header`. Raises Malformed."""
    (length,) = struct.unpack(">I", header)
    if length > MAX_BYTES:
        raise Malformed(f"a frame of {length:,} bytes")
    body = _read(channel, length)
    return None if body is None else loads(body)


def _read(channel: socket.socket, length: int) -> bytes | None:
    parts: list[bytes] = []
    while length:
        part = channel.recv(min(length, 65_536))
        if not part:
            return None
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
