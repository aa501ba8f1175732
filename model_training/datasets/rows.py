"""Training rows: our own shape, and the shapes that people bring along.

A line of a training file is one JSON object in one of three shapes: `question` and `answer` (ours; the other fields are
optional), `messages` (OpenAI's chat format), or `prompt` and `completion`. All become a `TrainingRow`. Nothing here
reads whole files into memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_training.contracts.chat import ChatMessage
from model_training.contracts.indexes import Source
from model_training.errors import UserError

MAX_LINE_BYTES = 4 * 1024 * 1024
"""A longer line is refused before it is read whole."""


class RowError(Exception):
    """One row that cannot be used; `field` is None where the whole row is at fault."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class TrainingRow(BaseModel):
    """One question with the answer that the model shall learn; the loss counts the answer only.

    `context` holds earlier turns (a system message, a conversation) of rows that came as `messages`. `split` is set by
    a data set that has chosen its own validation rows.
    """

    model_config = ConfigDict(extra="ignore")

    id: str | None = None
    kind: Literal["code", "qa"] = "qa"
    form: str = "user"
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    function: str | None = None
    source: Source = Source()
    split: Literal["train", "validation"] | None = None
    context: list[ChatMessage] = []

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
    """A row from one decoded JSON line.

    Raises:
        RowError: naming the field and the rule that it breaks.
    """
    if not isinstance(data, dict):
        raise RowError(f"a row must be a JSON object, this is {_json_type(data)}")
    fields: dict[str, Any] = dict(data)  # pyright: ignore[reportUnknownArgumentType]
    if "messages" in fields:
        fields = _from_messages(fields)
    elif "prompt" in fields or "completion" in fields:
        fields = _from_prompt(fields)
    for name in ("question", "answer"):
        _require_text(fields, name)
    try:
        return TrainingRow.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise RowError(first["msg"], ".".join(str(part) for part in first["loc"])) from error


def read_rows(path: Path) -> Iterator[TrainingRow]:
    """The rows of a training file, one at a time. Blank lines are passed over; a row without id gets `row-<number>`.

    Raises:
        UserError: at the first row that cannot be used, with its number and field.
    """
    for number, line in iter_lines(path):
        try:
            row = parse_row(decode_line(line))
        except RowError as error:
            where = f"row {number}" + (f", field {error.field}" if error.field else "")
            raise UserError(
                f"{path.name}, {where}: {error.message}.",
                hint=f"`mt dataset check {path} --purpose fine-tune` lists every faulty row.",
            ) from error
        yield row if row.id else row.model_copy(update={"id": f"row-{number}"})


def iter_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The non-blank lines with their number, from 1. A line over the limit is cut there; `decode_line` refuses it."""
    number = 0
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
            if line.strip():
                yield number, line


def decode_line(line: bytes) -> Any:
    """The JSON value of one line.

    Raises:
        RowError: for a wrong encoding, broken JSON or an overlong line.
    """
    if len(line) > MAX_LINE_BYTES:
        raise RowError(f"the line is longer than {MAX_LINE_BYTES // 1024 // 1024} MB")
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in line:
        raise RowError("the text is not UTF-8 (it looks like UTF-16 or binary); save the file as UTF-8")
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RowError(
            f"the text is not UTF-8: byte {error.start + 1} is 0x{line[error.start]:02x}"
        ) from error
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise RowError(f"broken JSON at column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise RowError("the JSON is nested too deeply") from error


def _refuse_constant(name: str) -> Any:
    raise RowError(f"{name} is not JSON")


def _from_messages(data: dict[str, Any]) -> dict[str, Any]:
    turns = data.pop("messages")
    if not isinstance(turns, list) or len(turns) < 2:  # pyright: ignore[reportUnknownArgumentType]
        raise RowError("needs at least a user and an assistant message", "messages")
    parsed: list[ChatMessage] = []
    for index, turn in enumerate(turns):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        try:
            parsed.append(ChatMessage.model_validate(turn))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(["messages", str(index), *(str(part) for part in first["loc"])])
            raise RowError(first["msg"], where) from error
    if parsed[-1].role != "assistant" or parsed[-2].role != "user":
        raise RowError("must end with a user message and the assistant's answer", "messages")
    return {**data, "context": parsed[:-2], "question": parsed[-2].content, "answer": parsed[-1].content}


def _from_prompt(data: dict[str, Any]) -> dict[str, Any]:
    for name in ("prompt", "completion"):
        _require_text(data, name)
    return {**data, "question": data.pop("prompt"), "answer": data.pop("completion")}


def _require_text(data: dict[str, Any], name: str) -> None:
    if name not in data:
        raise RowError(
            "is missing; a row has `question` and `answer`, `messages`, or `prompt` and `completion`", name
        )
    value = data[name]
    if not isinstance(value, str):
        raise RowError(f"must be text, this is {_json_type(value)}", name)
    if not value.strip():
        raise RowError("is empty", name)


def _json_type(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")
