"""JSON Lines: one JSON object a line, UTF-8."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from pydantic_core import from_json

from model_training.datasets.findings import Check
from model_training.datasets.formats.record import MAX_LINE_BYTES, Record, RowError


def read_jsonl(file: BinaryIO) -> Iterator[Record]:
    """The non-blank lines with their number. A line over the limit is cut there; `decode_line` refuses it."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
        if not line.isspace():
            yield Record(number, line)


def decode_line(line: bytes) -> Any:
    """The JSON value of one line.

    Raises:
        RowError: for a wrong encoding, broken JSON or an overlong line.
    """
    if len(line) <= MAX_LINE_BYTES:
        try:
            return from_json(line, allow_inf_nan=False, cache_strings="keys")
        except ValueError:
            pass  # the slower way below finds the reason, and reads what this parser is too strict for
    return _decode_or_say_why(line)


def _decode_or_say_why(line: bytes) -> Any:
    if len(line) > MAX_LINE_BYTES:
        raise RowError(f"the line is longer than {MAX_LINE_BYTES // 1024 // 1024} MB")
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in line:
        raise RowError(
            "the text is not UTF-8 (it looks like UTF-16 or binary); save the file as UTF-8",
            check=Check.ENCODING,
        )
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RowError(
            f"the text is not UTF-8: byte {error.start + 1} is 0x{line[error.start]:02x}",
            check=Check.ENCODING,
        ) from error
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise RowError(f"broken JSON at column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise RowError("the JSON is nested too deeply") from error
    except ValueError as error:  # Python reads no number of more than some thousand digits
        raise RowError("a number has too many digits") from error


def _refuse_constant(name: str) -> Any:
    raise RowError(f"{name} is not JSON")
