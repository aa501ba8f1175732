"""Votes of people: which of several answers to one question is best."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from model_training.contracts.base import Reference, Reply, Wire


class VoteCast(Wire):
    """Choose one of the arms that answered. The same key voting again on the same question and arms changes its vote."""

    question: str = Field(
        min_length=1, max_length=20_000, examples=["How do I split a list into pieces of three?"]
    )
    arms: Annotated[list[Reference], Field(min_length=1, max_length=32)] = Field(
        examples=[["gemma-3-270m", "rag:docs@gemma-3-270m"]]
    )
    chosen: Reference = Field(examples=["rag:docs@gemma-3-270m"])


class Vote(Reply):
    """A vote. `arms` are the models that answered, `chosen` the one that answered best."""

    id: str
    object: Literal["vote"] = "vote"
    question: str
    arms: list[str]
    chosen: str
    created_by: str | None = None
    created_at: datetime
