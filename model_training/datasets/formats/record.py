"""One row as it lies in a file, and the error that says why it cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from model_training.datasets.findings import Check

MAX_LINE_BYTES = 4 * 1024 * 1024
"""A longer row is refused before it is read whole."""


class RowError(Exception):
    """One row that cannot be used; `field` is None where the whole row is at fault."""

    def __init__(self, message: str, field: str | None = None, check: Check = Check.SCHEMA) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.check = check

    def __reduce__(self) -> tuple[type[RowError], tuple[str, str | None, Check]]:
        """Errors travel between processes."""
        return RowError, (self.message, self.field, self.check)


class Record(NamedTuple):
    """A row by its number, from 1: bytes of one JSON line, a decoded value, or what made it unreadable."""

    number: int
    raw: bytes | RowError | Any


@dataclass(frozen=True)
class Batch:
    """Consecutive records, and how many bytes of the file have been read with them.

    Numbers and raw values are kept apart because that travels between processes in a fifth of the time.
    """

    numbers: list[int]
    raws: list[bytes | RowError | Any]
    position: int

    @property
    def records(self) -> Iterator[Record]:
        """The records, one at a time."""
        return map(Record, self.numbers, self.raws)


def json_type(value: Any) -> str:
    """What a decoded JSON value is, in words."""
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")
