"""Remembers a few hashes of every row on disk, and finds the rows that share one: duplicates, conflicts, repeated ids.

SQLite's own temporary file and its external sort keep memory constant however many rows there are.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

CACHE_KIB = 48 * 1024
FILE_SHIFT = 40
"""A key is the number of the file shifted by so many bits, plus the number of the row."""


Entry = tuple[int, str | None, int, int, int]
"""One row: key, id if it has one, hashes of question, answer and both. Bare tuples, since millions of them travel."""


class Pair(NamedTuple):
    """A row, and the first row that it repeats. `identity` is the id that both have."""

    key: int
    first: int
    identity: str | None = None


def row_key(file: int, row: int) -> int:
    """One number for a row of a file; keys order as files and rows do."""
    return file << FILE_SHIFT | row


def place_of(key: int) -> tuple[int, int]:
    """The file and the row of a key."""
    return key >> FILE_SHIFT, key & (1 << FILE_SHIFT) - 1


def hash64(text: str, person: bytes = b"") -> int:
    """64 bits of a text without lone surrogates, as SQLite's signed integer; another `person` (to 16 bytes) gives others."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=person).digest()
    return int.from_bytes(digest, "big", signed=True)


class Ledger:
    """The hashes of all rows of a run. Close it to remove its file."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(
            "", isolation_level=None
        )  # a temporary file that is removed at the end
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._connection.execute("PRAGMA temp_store = FILE")
        self._connection.execute(
            "CREATE TABLE entry (key INTEGER PRIMARY KEY, identity TEXT, question INTEGER, answer INTEGER, "
            "content INTEGER)"
        )
        self._connection.execute("BEGIN")

    def add(self, entries: Iterable[Entry]) -> None:
        """Write rows down."""
        self._connection.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", entries)

    def close(self) -> None:
        """Forget everything."""
        self._connection.close()

    def duplicates(self) -> Iterator[Pair]:
        """Rows whose content stood in an earlier row. Not in order of rows."""
        last = first = None
        for content, key in self._connection.execute("SELECT content, key FROM entry ORDER BY content, key"):
            if content == last:
                yield Pair(key, first)  # pyright: ignore[reportArgumentType] (set with `last`)
            else:
                last, first = content, key

    def conflicts(self) -> Iterator[Pair]:
        """Rows whose question stood in an earlier row with another answer. Not in order of rows."""
        last = first = wanted = None
        query = "SELECT question, key, answer FROM entry ORDER BY question, key"
        for question, key, answer in self._connection.execute(query):
            if question != last:
                last, first, wanted = question, key, answer
            elif answer != wanted:
                yield Pair(key, first)  # pyright: ignore[reportArgumentType]

    def repeated_ids(self) -> Iterator[Pair]:
        """Rows whose id stood in an earlier row of the same file. Not in order of rows."""
        last: tuple[int, str] | None = None
        first = 0
        query = f"SELECT key >> {FILE_SHIFT}, identity, key FROM entry WHERE identity IS NOT NULL ORDER BY 1, 2, 3"  # nosec B608 # a number
        for file, identity, key in self._connection.execute(query):
            if (file, identity) == last:
                yield Pair(key, first, identity)
            else:
                last, first = (file, identity), key

    def same_content(self, pair: Pair) -> bool:
        """Whether two rows are exact duplicates."""
        query = "SELECT COUNT(DISTINCT content) FROM entry WHERE key IN (?, ?)"
        return self._connection.execute(query, pair[:2]).fetchone() == (1,)
