"""Which items of a comparison are looked at, as the address of the page says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Self
from urllib.parse import urlencode

PER_PAGE = 25
OUTCOMES = {
    "disagree": "arms differ",
    "all_right": "all right",
    "all_wrong": "all wrong",
    "ungraded": "not graded",
}


@dataclass(frozen=True)
class ItemFilter:
    """Filters, page (from 1) and the item that is open, by its place. Empty texts ask for nothing."""

    outcome: str = ""
    suite: str = ""
    form: str = ""
    won: str = ""
    lost: str = ""
    search: str = ""
    page: int = 1
    item: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """The filter of an address; what makes no sense is left out."""
        texts = {f.name: query[f.name][:200] for f in fields(cls) if f.name in query and f.type == "str"}
        if texts.get("outcome") not in OUTCOMES:
            texts.pop("outcome", None)
        page, item = query.get("page", ""), query.get("item", "")
        return cls(
            **texts,
            page=max(1, int(page)) if page.isdecimal() else 1,
            item=int(item) if item.isdecimal() else None,
        )

    @property
    def wanted(self) -> dict[str, str | None]:
        """What the platform is asked for."""
        return {
            name: getattr(self, name) or None
            for name in ("outcome", "suite", "form", "won", "lost", "search")
        }

    @property
    def offset(self) -> int:
        """Items before this page."""
        return (self.page - 1) * PER_PAGE

    def changed(self, **values: str | int | None) -> Self:
        """Another filter; where filters change, the first page is shown and no item is open."""
        back = {} if values.keys() <= {"page", "item"} else {"page": 1, "item": None}
        return replace(self, **{**back, **values})  # type: ignore[arg-type]

    def address(self, path: str) -> str:
        """The page's address with this filter."""
        said = {f.name: getattr(self, f.name) for f in fields(self)}
        query = {
            name: value
            for name, value in said.items()
            if value not in ("", None) and (name, value) != ("page", 1)
        }
        return f"{path}?{urlencode(query)}" if query else path
