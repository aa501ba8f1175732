"""CSV with a header line, fields separated by comma, semicolon, tab or bar."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from model_training.datasets.findings import Check
from model_training.datasets.formats.record import MAX_LINE_BYTES, Record, RowError

DELIMITERS = ",;\t|"
KNOWN_COLUMNS = (
    {"question", "answer"}, {"prompt", "completion"}, {"instruction", "output"}, {"messages"}, {"conversations"},
    {"id", "text"}, {"id", "question"},
)  # fmt: skip
"""A first line with all names of one set is the header of a table that we can use."""
JSON_COLUMNS = frozenset({"messages", "conversations", "source", "functions", "check", "history"})
"""Cells of these columns hold JSON."""


def read_csv(file: BinaryIO) -> Iterator[Record]:
    """The rows with the line that each begins on. Empty cells are left out, as if the field were not there.

    A field of a row may go over several lines if it is quoted.
    """
    csv.field_size_limit(MAX_LINE_BYTES)  # of the process, but nothing else here reads CSV
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        head = text.readline(MAX_LINE_BYTES)
        if "\x00" in head or head.startswith(("\udcff\udcfe", "\udcfe\udcff")):
            yield Record(
                1,
                RowError(
                    "the text is not UTF-8 (it looks like UTF-16); save the file as UTF-8", check=Check.FILE
                ),
            )
            return
        delimiter = delimiter_of(head) or ","
        names = next(csv.reader([head], delimiter=delimiter), [])
        yield from _rows(csv.reader(text, delimiter=delimiter, strict=True), [name.strip() for name in names])


def delimiter_of(head: str) -> str | None:
    """The character that parts a header line into columns we know; None if none does."""
    for delimiter in DELIMITERS:
        names = {name.strip() for name in head.strip("\ufeff\r\n").replace('"', "").split(delimiter)}
        if any(known <= names for known in KNOWN_COLUMNS):
            return delimiter
    return None


def _rows(reader: Any, names: list[str]) -> Iterator[Record]:
    while True:
        line = reader.line_num + 2  # the header was read before
        try:
            cells: list[str] = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(line, RowError(f"broken CSV: {error}"))
            continue
        if any(cells):
            yield Record(line, _record(names, cells))


def _record(names: list[str], cells: list[str]) -> dict[str, Any] | RowError:
    if len(cells) != len(names):
        return RowError(
            f"has {len(cells)} cells, the header has {len(names)}; quote cells that hold the separator"
        )
    fields: dict[str, Any] = {name: cell for name, cell in zip(names, cells, strict=True) if cell}
    for name in JSON_COLUMNS & fields.keys():
        try:
            fields[name] = json.loads(fields[name])
        except (ValueError, RecursionError):
            return RowError("must be JSON in a CSV file", name)
    return fields
