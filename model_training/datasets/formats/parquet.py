"""Parquet, through pyarrow where it is installed (`pip install 'model-training[data]'`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

from model_training.datasets.findings import Check
from model_training.datasets.formats.record import MAX_LINE_BYTES, Record, RowError
from model_training.errors import UserError

BATCH_ROWS = 64
MAX_GROUP_BYTES = 2 << 30
"""Row groups that claim to be larger, unpacked, are refused: they are made to fill memory."""


def read_parquet(file: BinaryIO) -> Iterator[Record]:
    """The rows with their position. Fields without a value are left out.

    Raises:
        UserError: pyarrow is not installed.
    """
    try:
        import pyarrow as arrow  # heavy, and not part of the bare install
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UserError(
            "Reading Parquet needs pyarrow, which is not installed.",
            hint="pip install 'model-training[data]', or save the table as CSV or JSONL.",
        ) from error
    try:
        table: Any = parquet.ParquetFile(file, pre_buffer=False)
        for index in range(table.metadata.num_row_groups):
            if table.metadata.row_group(index).total_byte_size > MAX_GROUP_BYTES:
                raise arrow.ArrowInvalid(f"row group {index} has more than {MAX_GROUP_BYTES >> 30} GB")
        yield from _rows(table)
    except (arrow.ArrowException, OSError) as error:
        yield Record(1, RowError(f"the Parquet file cannot be read: {error}", check=Check.FILE))


def _rows(table: Any) -> Iterator[Record]:
    number = 0
    for batch in table.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
        for values in batch.to_pylist():
            number += 1
            found = {name: value for name, value in values.items() if value is not None}
            if _characters(found) > MAX_LINE_BYTES:
                yield Record(number, RowError(f"the row is longer than {MAX_LINE_BYTES // 1024 // 1024} MB"))
            else:
                yield Record(number, found)


def _characters(value: Any) -> int:
    """Of all texts in a value: a limit like that of the other formats, which count bytes."""
    if isinstance(value, str | bytes):
        return len(value)
    parts: Iterable[Any] = ()
    if isinstance(value, dict):
        parts = cast("dict[str, Any]", value).values()
    elif isinstance(value, list):
        parts = cast("list[Any]", value)
    return sum(map(_characters, parts))
