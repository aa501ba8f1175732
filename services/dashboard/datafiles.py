"""Copies of uploaded files, for looking through their rows: kept by content in a temporary folder, the oldest go first.

A row is found by its place; no file is held in memory. Files of other formats are copied as JSON Lines.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from model_training.client import Client
from model_training.contracts.files import FileObject
from model_training.datasets.sources import DataSource, read_sources, write_rows
from model_training.errors import UserError

MOST_BYTES = 256_000_000
"""Larger files are not copied here."""
KEPT = 16
BINS = 24


@dataclass(frozen=True)
class Row:
    """A row by its number, which counts from 1, and what stands in it; the text itself where that is no JSON object."""

    number: int
    values: dict[str, Any]


@dataclass(frozen=True)
class Bin:
    """So many rows of up to so many characters."""

    up_to: int
    rows: int


class Book:
    """One file, row by row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts = array("q")
        self._lengths = array("q")
        with path.open("rb") as lines:
            start = 0
            for line in lines:
                if line.strip():
                    self._starts.append(start)
                    self._lengths.append(len(line))
                start += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    def rows(self, first: int, count: int) -> list[Row]:
        """So many rows from a position that counts from 0."""
        with self.path.open("rb") as lines:
            return [self._row(lines, position) for position in self._range(first, count)]

    def find(self, text: str, first: int, count: int) -> tuple[list[Row], int]:
        """Rows that hold a text, whatever its case, of all that do; and how many there are."""
        wanted = json.dumps(text, ensure_ascii=False)[1:-1].casefold()
        found: list[int] = []
        with self.path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(line for line in lines if line.strip()):
                if wanted in _readable(line).casefold():
                    found.append(number)
        return [row for i in found[first : first + count] for row in self.rows(i, 1)], len(found)

    def histogram(self) -> list[Bin]:
        """Lengths of the rows in characters of JSON, in bins of equal width; the last holds all that are longer."""
        if not len(self):
            return []
        ordered = sorted(self._lengths)
        top = max(1, ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))])
        width = max(1, -(-top // BINS))
        counts = Counter(min(BINS - 1, (length - 1) // width) for length in ordered)
        return [Bin((position + 1) * width, counts[position]) for position in range(BINS)]

    def _range(self, first: int, count: int) -> Iterator[int]:
        return iter(range(max(0, first), min(len(self), first + count)))

    def _row(self, lines: BinaryIO, position: int) -> Row:
        lines.seek(self._starts[position])
        text = lines.read(self._lengths[position]).decode("utf-8", "replace")
        try:
            found = json.loads(text)
        except ValueError:
            found = {"text": text}
        return Row(position + 1, found if isinstance(found, dict) else {"value": found})


def _readable(line: str) -> str:
    """A line of JSON with its letters as they are: `\\u00f6` is an ö."""
    if "\\u" not in line:
        return line
    try:
        return json.dumps(json.loads(line), ensure_ascii=False)
    except ValueError:
        return line


class Shelf:
    """The books that were opened."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mt-dashboard-")
        self._books: OrderedDict[str, Book] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where copies and uploads under way lie; it is gone when the dashboard ends."""
        return Path(self._folder.name)

    def open(self, client: Client, file: FileObject) -> Book:
        """The book of an uploaded file; fetched if it is not here. Blocks: call it on a thread.

        Raises:
            UserError: the file is too large, or cannot be fetched or read.
        """
        with self._lock:
            if file.sha256 in self._books:
                self._books.move_to_end(file.sha256)
                return self._books[file.sha256]
            book = self._books[file.sha256] = self._fetch(client, file)
            while len(self._books) > KEPT:
                self._books.popitem(last=False)[1].path.unlink(missing_ok=True)
            return book

    def original(self, sha256: str, filename: str) -> Path:
        """Where the copy of a file lies, with the ending of its name."""
        return self.folder / f"{sha256}{Path(filename).suffix or '.jsonl'}"

    def close(self) -> None:
        """Remove everything."""
        self._folder.cleanup()

    def _fetch(self, client: Client, file: FileObject) -> Book:
        if file.bytes > MOST_BYTES:
            raise UserError(
                f"{file.filename} has {file.bytes / 1e6:.0f} MB; up to {MOST_BYTES / 1e6:.0f} MB are shown here.",
                hint=f"Look at it in the terminal: mt files content {file.id}.",
            )
        path = self.original(file.sha256, file.filename)
        client.files.download(file.id, path)
        if path.suffix in ("", ".jsonl"):
            return Book(path)
        rows = path.with_suffix(".rows.jsonl")
        write_rows(rows, read_sources([DataSource(path)], seed=0))
        return Book(rows)


def check_command(path: Path, purpose: str, evaluation: Path | None) -> list[str]:
    """What checks a file thoroughly, as JSON, in a process of its own: it takes a core for a while."""
    start = [sys.executable, "-m", "model_training.cli.main", "dataset", "check", str(path), "--json"]
    held_out = ["--evaluation", str(evaluation)] if evaluation is not None else []
    return [*start, "--purpose", purpose, *held_out]
