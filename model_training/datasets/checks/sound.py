"""One sound row of any purpose, in the few texts that all checks work on."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from model_training.contracts.evaluations import CallCheck, EvaluationItem, TextCheck
from model_training.contracts.files import FilePurpose
from model_training.contracts.indexes import Chunk
from model_training.datasets.checks.garbled import surrogate
from model_training.datasets.findings import Check
from model_training.datasets.formats.record import RowError
from model_training.datasets.rows import TrainingRow, parse_row
from model_training.datasets.shapes import shape_of

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Sound:
    """What the checks need of a row. `question` has the earlier turns before it; a passage is all `answer`.

    `last_question` is the last turn of the question alone. `row` is there for training rows.
    """

    shape: str
    kind: str
    identity: str | None
    question: str
    answer: str
    last_question: str
    row: TrainingRow | None = None

    @property
    def text(self) -> str:
        """All of it."""
        return f"{self.question}\n{self.answer}" if self.question else self.answer


def sound_row(data: Any, purpose: FilePurpose) -> Sound:
    """A decoded value as a row of a purpose.

    Raises:
        RowError: naming the field and the rule that it breaks.
    """
    sound = _READERS[purpose](data)
    for name, text in _texts(sound):
        if text and (at := surrogate(text)):
            message = f"is no Unicode text: character {at} is a byte that is not UTF-8, or half of a pair"
            raise RowError(message, name, Check.ENCODING)
    return sound


def _texts(sound: Sound) -> tuple[tuple[str, str | None], ...]:
    group = sound.row.function if sound.row is not None else None
    answer = "answer" if sound.question else "text"
    return (("question", sound.question), (answer, sound.answer), ("id", sound.identity), ("function", group))


def _training(data: Any) -> Sound:
    row = parse_row(data)
    question = (
        "\n".join([*(turn.content for turn in row.context), row.question]) if row.context else row.question
    )
    shape = shape_of(cast("dict[str, Any]", data))
    return Sound(shape, row.kind, row.id, question, row.answer, row.question, row)


def _chunk(data: Any) -> Sound:
    chunk = _validate(Chunk, data)
    if not chunk.text.strip():
        raise RowError("is empty", "text", Check.EMPTY)
    return Sound("passage", chunk.source.kind or "chunk", chunk.id, "", chunk.text, "")


def _item(data: Any) -> Sound:
    item = _validate(EvaluationItem, data)
    if not item.question.strip():
        raise RowError("is empty", "question", Check.EMPTY)
    if not item.answer.strip() and isinstance(item.check, TextCheck):
        raise RowError("is empty", "answer", Check.EMPTY)
    if isinstance(item.check, CallCheck):
        _check_call(item.check)
    return Sound("item", item.suite, item.id, item.question, item.answer, item.question)


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


_READERS: dict[FilePurpose, Callable[[Any], Sound]] = {
    FilePurpose.FINE_TUNE: _training,
    FilePurpose.CHUNKS: _chunk,
    FilePurpose.EVALUATION: _item,
}
