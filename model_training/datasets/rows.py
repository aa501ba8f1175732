"""Training rows: one shape of our own for everything that people bring along.

`shapes` turns the fields of the other shapes into ours; `formats` reads the files, never whole into memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from model_training.contracts.chat import ChatMessage
from model_training.contracts.evaluations import Check as AnswerCheck
from model_training.contracts.indexes import Source
from model_training.datasets.findings import Check
from model_training.datasets.formats.jsonl import decode_line
from model_training.datasets.formats.read import read_records
from model_training.datasets.formats.record import MAX_LINE_BYTES, Record, RowError, json_type
from model_training.datasets.shapes import normal_fields
from model_training.errors import UserError

__all__ = ["MAX_LINE_BYTES", "RowError", "TrainingRow", "decode_line", "parse_row", "read_rows", "value_of"]

_UNKNOWN = Source()
"""Shared by all rows without a source: a new one for each takes as long as the rest of the row."""

_CHECKS = frozenset({"call", "unit_tests", "text"})


class TrainingRow(BaseModel):
    """One question with the answer that the model shall learn; the loss counts the answer only.

    `context` holds earlier turns (a system message, a conversation) of rows that came as conversations. `split` is set by
    a data set that has chosen its own validation rows, `check` where an answer to one can be tried. A field `group` is
    read as `function` where that is absent.
    """

    model_config = ConfigDict(extra="ignore")

    id: str | None = None
    kind: Literal["code", "qa"] = "qa"
    form: str = "user"
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    function: str | None = None
    source: Source = Field(default_factory=lambda: _UNKNOWN)
    split: Literal["train", "validation"] | None = None
    context: list[ChatMessage] = Field(default_factory=lambda: [])
    check: AnswerCheck | None = None

    @field_validator("check", mode="before")
    @classmethod
    def _only_ours(cls, value: Any) -> Any:
        """What a column of this name holds in other people's files is theirs."""
        kind = cast("dict[str, Any]", value).get("type") if isinstance(value, dict) else None
        return value if isinstance(value, BaseModel) or kind in _CHECKS else None

    @property
    def group(self) -> str | None:
        """What the row is about; rows of one group are not independent of each other."""
        return self.function

    @property
    def messages(self) -> list[ChatMessage]:
        """The whole conversation, the answer last."""
        question = ChatMessage(role="user", content=self.question)
        return [*self.context, question, ChatMessage(role="assistant", content=self.answer)]


def parse_row(data: Any) -> TrainingRow:
    """A row from one decoded value of a file.

    Raises:
        RowError: naming the field and the rule that it breaks.
    """
    if not isinstance(data, dict):
        raise RowError(f"a row must be a JSON object, this is {json_type(data)}")
    fields = normal_fields(cast("dict[str, Any]", data))
    if "group" in fields and fields.get("function") is None:
        fields = {**fields, "function": fields["group"]}
    try:
        return TrainingRow.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "string_unicode":
            raise RowError(
                "is no Unicode text: it holds a byte that is not UTF-8, or half of a pair",
                str(first["loc"][0]),
                Check.ENCODING,
            ) from error
        raise RowError(first["msg"], ".".join(str(part) for part in first["loc"])) from error


def value_of(record: Record) -> Any:
    """The decoded value of a record.

    Raises:
        RowError: it cannot be decoded.
    """
    if isinstance(record.raw, RowError):
        raise record.raw
    return decode_line(record.raw) if isinstance(record.raw, bytes) else record.raw


def read_rows(path: Path) -> Iterator[TrainingRow]:
    """The rows of a training file of any format, one at a time. Blank lines are passed over; a row without id gets
    `row-<number>`.

    Raises:
        UserError: at the first row that cannot be used, with its number and field.
    """
    for record in read_records(path):
        try:
            row = parse_row(value_of(record))
        except RowError as error:
            where = f"row {record.number}" + (f", field {error.field}" if error.field else "")
            raise UserError(
                f"{path.name}, {where}: {error.message}.",
                hint=f"`mt dataset check {path} --purpose fine-tune` lists every faulty row.",
            ) from error
        yield row if row.id else row.model_copy(update={"id": f"row-{record.number}"})
