"""Errors on the wire: RFC 9457 problem details, with the fields that OpenAI clients read beside them."""

from __future__ import annotations

from typing import Literal

from model_training.contracts.base import Reply

Blame = Literal["user", "system"]


class RowFault(Reply):
    """One faulty row of a data file. `row` counts from 1, as an editor shows it."""

    row: int
    field: str | None = None
    message: str


class OpenAIError(Reply):
    """The body that the `openai` package reads from a failed request."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Problem(Reply):
    """An RFC 9457 problem. `code` is stable and meant for programs, `detail` and `hint` for people."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    param: str | None = None
    blame: Blame = "user"
    hint: str | None = None
    rows: list[RowFault] | None = None
    error: OpenAIError | None = None
