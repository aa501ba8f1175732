"""Walking through pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from model_training.contracts.base import Page

Item = TypeVar("Item")


def walk(read: Callable[[str | None], Page[Item]], after: str | None = None) -> Iterator[Item]:
    """Every item of every page, fetched as they are needed.

    Args:
        read: fetches the page after an id.
    """
    while True:
        page = read(after)
        yield from page.data
        if not page.has_more or page.last_id is None:
            return
        after = page.last_id
