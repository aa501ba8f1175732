"""The base of every wire model, the kinds of text and number that requests may carry, and the shape of all lists."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

Item = TypeVar("Item")

# Characters that PostgreSQL cannot store (NUL), that are no Unicode text (lone surrogates), or, in a name, that make it
# read as another one: control characters and those that turn the direction of writing.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
MAX_DEPTH = 40
"""Lists and objects may stand in each other so deeply; pydantic and the database take more, but not any number."""

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def plain_text(value: str) -> str:
    """The text itself, if it is fit for a name.

    Raises:
        ValueError: it holds a control character or one that turns the direction of writing.
    """
    if found := _UNPRINTABLE.search(value):
        raise PydanticCustomError(
            "unprintable_text",
            "a name may not hold control characters or marks that turn the direction of writing; "
            "character {position} is {character}",
            {"position": found.start() + 1, "character": f"U+{ord(found.group()):04X}"},
        )
    return value


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 5.0 is as whole as 5. Texts and truth values are no numbers."""
    if isinstance(value, str | bool):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


def _moment(value: Any) -> Any:
    """A time is written as text; a number could be seconds or milliseconds."""
    if isinstance(value, int | float):
        raise PydanticCustomError(
            "datetime_type", "Input should be a time as text, with its zone: 2026-11-23T08:00:00Z"
        )
    return value


PLAIN: dict[str, Any] = {
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]*$"
}
"""The rule of `plain_text`, for schemas."""

PlainText = Annotated[str, Field(json_schema_extra=PLAIN), AfterValidator(plain_text)]

Name = Annotated[PlainText, Field(min_length=1, max_length=100)]
"""A name that people read."""

Reference = Annotated[str, Field(min_length=1, max_length=200)]
"""An id, or the name of a model."""

Reason = Annotated[PlainText, Field(max_length=1000)]
"""Why something was changed, for whoever reads the history."""

Metadata = Annotated[
    dict[
        Annotated[PlainText, Field(min_length=1, max_length=64)],
        Annotated[str, Field(max_length=512)],
    ],
    Field(max_length=16),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": 16,
            "propertyNames": {"minLength": 1, "maxLength": 64, **PLAIN},
            "additionalProperties": {"type": "string", "maxLength": 512},
            "examples": [{"team": "search"}],
        }
    ),
]
"""Up to 16 pairs of your own, kept with the job."""

Flag = Annotated[bool, Field(strict=True)]
WHOLE = BeforeValidator(_whole)
MOMENT = BeforeValidator(_moment)
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1), WHOLE]


class Wire(BaseModel):
    """A message on the wire: unknown fields are refused, so that a typing error is an answer and not a silent default."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        refuse_unstorable(data)
        return data


def refuse_unstorable(value: Any, path: str = "", depth: int = 0) -> None:
    """Walk through a decoded JSON value.

    Raises:
        PydanticCustomError: a text in it cannot be stored, a number is not finite, or lists and objects stand in each other
            too deeply; its context's `path` says where.
    """
    if depth > MAX_DEPTH:
        raise PydanticCustomError(
            "too_deep",
            "{path} is nested more than {most} levels deep",
            {"path": path[:60], "most": MAX_DEPTH},
        )
    if isinstance(value, str):
        if found := _UNSTORABLE.search(value):
            raise PydanticCustomError(
                "unstorable_text",
                "{path} holds the character {character}, which cannot be stored",
                {"path": path or "the text", "character": f"U+{ord(found.group()):04X}"},
            )
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise PydanticCustomError(
                "infinite", "{path} is not a finite number", {"path": path or "the value"}
            )
    elif isinstance(value, dict):
        for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
            refuse_unstorable(key, f"{path} (a key)".lstrip())
            refuse_unstorable(inner, f"{path}.{key}".lstrip("."), depth + 1)
    elif isinstance(value, list):
        for position, inner in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            refuse_unstorable(inner, f"{path}.{position}".lstrip("."), depth + 1)


class Reply(BaseModel):
    """A message that a service sends: a newer server may add fields, and an older client must still read it."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class Page(Reply, Generic[Item]):
    """One page of a list, newest first. Ask for the next with `after=<last_id>`."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False

    @classmethod
    def of(cls, data: list[Item], has_more: bool = False) -> Self:
        """A page of things that have an `id`."""
        ids = [getattr(item, "id") for item in data]  # noqa: B009 (an item is anything with an id)
        return cls(
            data=data, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None, has_more=has_more
        )


class Deleted(Reply):
    """The answer to a delete."""

    id: str
    object: str
    deleted: bool = True
