"""A JSON file that is one list of objects, read element by element: the file may be larger than memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from model_training.datasets.findings import Check
from model_training.datasets.formats.record import MAX_LINE_BYTES, Record, RowError

BLOCK = 1 << 20  # bytes
_SPACE = " \t\r\n"


def read_json_array(file: BinaryIO) -> Iterator[Record]:
    """The elements with their position. A broken element ends the reading: where the next one begins is not known then."""
    text = _Text(file)
    if text.next_character() != "[":
        yield Record(
            1,
            RowError(
                "the file is one JSON value; write a list of rows, or one object a line", check=Check.FILE
            ),
        )
        return
    text.position += 1
    number = 0
    while (character := text.next_character()) != "]":
        number += 1
        if number > 1:
            if character != ",":
                yield Record(number, _broken("a comma or the end of the list is missing"))
                return
            text.position += 1
        record = _element(text, number)
        yield record
        if isinstance(record.raw, RowError) and record.raw.check == Check.FILE:
            return


def _element(text: _Text, number: int) -> Record:
    text.next_character()
    constants: list[str] = []
    decoder = json.JSONDecoder(parse_constant=constants.append)
    try:
        value, length = text.decode(decoder)
    except json.JSONDecodeError as error:
        return Record(number, _broken(error.msg))
    except RecursionError:
        return Record(number, _broken("it is nested too deeply"))
    except ValueError:  # Python reads no number of more than some thousand digits
        return Record(number, _broken("a number has too many digits"))
    if constants:
        return Record(number, RowError(f"{constants[0]} is not JSON"))
    if length > MAX_LINE_BYTES:
        return Record(number, RowError(f"the row is longer than {MAX_LINE_BYTES // 1024 // 1024} MB"))
    return Record(number, value)


def _broken(reason: str) -> RowError:
    return RowError(f"broken JSON: {reason}; what follows was not read", check=Check.FILE)


class _Text:
    """The part of the file's text that is needed now. Bytes that are no UTF-8 become lone surrogates, which are refused."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._buffer = ""
        self._ended = False
        self.position = 0

    def next_character(self) -> str:
        """The character after white space, not taken; empty at the end."""
        while True:
            while self.position < len(self._buffer) and self._buffer[self.position] in _SPACE:
                self.position += 1
            if self.position < len(self._buffer) or self._ended:
                return self._buffer[self.position : self.position + 1]
            self._more()

    def decode(self, decoder: json.JSONDecoder) -> tuple[Any, int]:
        """The value that begins here, and its length in characters."""
        self._forget()
        while True:
            try:
                value, end = decoder.raw_decode(self._buffer, self.position)
            except json.JSONDecodeError:
                if self._ended or len(self._buffer) > 2 * MAX_LINE_BYTES:
                    raise
            else:
                if end < len(self._buffer) or self._ended:  # else a number may go on
                    length, self.position = end - self.position, end
                    return value, length
            self._more()

    def _forget(self) -> None:
        if self.position > BLOCK:
            self._buffer = self._buffer[self.position :]
            self.position = 0

    def _more(self) -> None:
        block = self._file.read(BLOCK)
        self._ended = not block
        self._buffer += self._decoder.decode(block, final=self._ended)
