"""Checks a data file row by row, in one pass and little memory: every fault counted, the first hundred kept.

The gateway calls `check_file` when a file is uploaded; `mt dataset check` does the same before.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from model_training.contracts.evaluations import CallCheck, EvaluationItem, TextCheck
from model_training.contracts.files import FilePurpose, FileReport
from model_training.contracts.indexes import Chunk
from model_training.contracts.problems import RowFault
from model_training.datasets.rows import RowError, decode_line, iter_lines, parse_row
from model_training.errors import UserError

KEPT_FAULTS = 100
Model = TypeVar("Model", bound=BaseModel)


def check_file(path: Path, purpose: FilePurpose | str) -> FileReport:
    """What a file holds and what is wrong with it. A file without any usable row is at fault as a whole (row 0).

    Raises:
        UserError: if there is no such file, it cannot be read, or the purpose is unknown.
    """
    checker = _CHECKERS[_purpose(purpose)]
    faults = _Faults()
    state = _State()
    try:
        for number, line in iter_lines(Path(path)):
            state.rows += 1
            try:
                state.note(number, line, checker(decode_line(line)))
            except RowError as error:
                faults.add(number, error.field, error.message)
    except OSError as error:
        raise UserError(
            f"The file {path} cannot be read: {error.strerror}.", hint="Check the path and its rights."
        ) from error
    if not state.rows:
        faults.add(0, None, "the file holds no rows; it needs one JSON object a line")
    return FileReport(
        rows=state.rows, kinds=dict(sorted(state.kinds.items())), characters=state.characters,
        duplicates=state.duplicates, fault_count=faults.count, faults=faults.kept,
    )  # fmt: skip


class _Faults:
    def __init__(self) -> None:
        self.kept: list[RowFault] = []
        self.count = 0

    def add(self, row: int, field: str | None, message: str) -> None:
        self.count += 1
        if len(self.kept) < KEPT_FAULTS:
            self.kept.append(RowFault(row=row, field=field, message=message))


class _State:
    """What is remembered across rows: counts, and eight bytes of a hash for each row and each id."""

    def __init__(self) -> None:
        self.rows = 0
        self.kinds: Counter[str] = Counter()
        self.characters = 0
        self.duplicates = 0
        self._contents: set[bytes] = set()
        self._ids: dict[bytes, int] = {}

    def note(self, number: int, line: bytes, found: _Found) -> None:
        """Count a good row.

        Raises:
            RowError: if its id was there before.
        """
        if found.identity is not None:
            first = self._ids.setdefault(_hash(found.identity), number)
            if first != number:
                raise RowError(f"{found.identity!r} is also the id of row {first}", "id")
        content = _hash(found.content)
        self.duplicates += content in self._contents
        self._contents.add(content)
        self.kinds[found.kind] += 1
        self.characters += len(found.content)


class _Found:
    def __init__(self, kind: str, identity: str | None, content: str) -> None:
        self.kind = kind
        self.identity = identity
        self.content = content


def _check_row(data: Any) -> _Found:
    row = parse_row(data)
    return _Found(row.kind, row.id, "\n".join(message.content for message in row.messages))


def _check_chunk(data: Any) -> _Found:
    chunk = _validate(Chunk, data)
    if not chunk.text.strip():
        raise RowError("is empty", "text")
    return _Found(chunk.source.kind or "chunk", chunk.id, chunk.text)


def _check_item(data: Any) -> _Found:
    item = _validate(EvaluationItem, data)
    if not item.question.strip():
        raise RowError("is empty", "question")
    if not item.answer.strip() and isinstance(item.check, TextCheck):
        raise RowError("is empty", "answer")
    if isinstance(item.check, CallCheck):
        _check_call(item.check)
    return _Found(item.suite, item.id, f"{item.question}\n{item.answer}")


def _check_call(check: CallCheck) -> None:
    try:
        ast.literal_eval(check.expected)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise RowError("must be a Python literal, for example `[1, 2]`", "check.expected") from error
    for name, statements in (("imports", check.imports), ("setup", check.setup)):
        for index, statement in enumerate(statements):
            try:
                ast.parse(statement)
            except (SyntaxError, ValueError) as error:
                raise RowError(f"is no Python statement: {statement!r}", f"check.{name}.{index}") from error


def _validate(model: type[Model], data: Any) -> Model:
    if not isinstance(data, dict):
        raise RowError("a row must be a JSON object")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        # The tag of a union (`check.call.expected`) is not a field of the file.
        path = [
            str(part)
            for part in first["loc"]
            if part not in {"call", "unit_tests", "text"} or first["loc"][0] != "check"
        ]
        raise RowError(first["msg"], ".".join(path)) from error


def _purpose(purpose: FilePurpose | str) -> FilePurpose:
    try:
        return FilePurpose(purpose)
    except ValueError:
        known = ", ".join(one.value for one in FilePurpose)
        raise UserError(f"purpose = {purpose!r} is unknown.", hint=f"Use one of: {known}.") from None


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


_CHECKERS: dict[FilePurpose, Callable[[Any], _Found]] = {
    FilePurpose.FINE_TUNE: _check_row,
    FilePurpose.CHUNKS: _check_chunk,
    FilePurpose.EVALUATION: _check_item,
}
