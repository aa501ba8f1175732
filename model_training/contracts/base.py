"""The base of every wire model and the shapes that all lists share."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")


class Wire(BaseModel):
    """A message on the wire: unknown fields are refused, so that a typing error is an answer and not a silent default."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


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


class Deleted(Reply):
    """The answer to a delete."""

    id: str
    object: str
    deleted: bool = True
