"""Recognises what a file is by its content first and its name second, and reads it in batches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from model_training.datasets.formats.csv_table import delimiter_of, read_csv
from model_training.datasets.formats.json_array import read_json_array
from model_training.datasets.formats.jsonl import read_jsonl
from model_training.datasets.formats.parquet import read_parquet
from model_training.datasets.formats.record import Batch, Record
from model_training.errors import UserError

HEAD = 64 * 1024  # bytes that are looked at
BATCH_RECORDS = 1000
BATCH_BYTES = 512 * 1024
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""Names that count as data files in a folder."""


class FileFormat(StrEnum):
    """How a file holds its rows."""

    JSONL = "JSONL"
    JSON = "JSON"
    CSV = "CSV"
    PARQUET = "Parquet"


def recognise(path: Path) -> FileFormat:
    """The format of a file. What is nothing else counts as JSONL, whose faults are told line by line.

    Raises:
        UserError: the file cannot be read.
    """
    with _opened(path) as file:
        head = file.read(HEAD)
    suffix = path.suffix.lower()
    if head.startswith(b"PAR1") or suffix == ".parquet":
        return FileFormat.PARQUET
    if suffix in (".csv", ".tsv"):
        return FileFormat.CSV
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"\[\s*[{\]]", text) or (suffix == ".json" and text.startswith(b"[")):
        return FileFormat.JSON
    first = text.split(b"\n", 1)[0].strip()
    if suffix == ".json" and first == b"{":
        return FileFormat.JSON  # one object over several lines: refused as such
    if not first.startswith((b"{", b"[")) and delimiter_of(first.decode("utf-8", "replace")):
        return FileFormat.CSV
    return FileFormat.JSONL


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file of any format, one at a time.

    Raises:
        UserError: the file cannot be read, or its format needs a package that is not installed.
    """
    for batch in read_batches(path):
        yield from batch.records


def read_batches(path: Path, file_format: FileFormat | None = None) -> Iterator[Batch]:
    """The records of a file in batches of bounded size, in one pass.

    Raises:
        UserError: the file cannot be read, or its format needs a package that is not installed.
    """
    reader = _READERS[file_format or recognise(path)]
    with _opened(path) as file:
        batch = Batch([], [], 0)
        try:
            for number, raw in reader(file):
                batch.numbers.append(number)
                batch.raws.append(raw)
                if len(batch.raws) >= BATCH_RECORDS or file.tell() - batch.position > BATCH_BYTES:
                    yield replace(batch, position=file.tell())
                    batch = Batch([], [], file.tell())
        except OSError as error:
            raise _unreadable(path, error) from error
    if batch.raws:
        yield replace(batch, position=path.stat().st_size)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"The file {path} cannot be read: {error.strerror}.", hint="Check the path and its rights."
    )


_READERS: dict[FileFormat, Callable[[BinaryIO], Iterator[Record]]] = {
    FileFormat.JSONL: read_jsonl,
    FileFormat.JSON: read_json_array,
    FileFormat.CSV: read_csv,
    FileFormat.PARQUET: read_parquet,
}
