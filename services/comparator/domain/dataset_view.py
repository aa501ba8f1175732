"""Cuts a data set's report, whatever its fields, into facts, sentences and tables for the page.

The report comes with the request, so nothing is taken for granted: what has an unknown shape is shown as it
is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_ROWS = 40


@dataclass(frozen=True)
class Sheet:
    """A table. `more` counts rows that are not shown."""

    title: str
    head: list[str]
    rows: list[list[Any]]
    more: int = 0


@dataclass(frozen=True)
class DatasetView:
    """What the page shows of a data set."""

    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    notes: list[str] = field(default_factory=list[str])
    sheets: list[Sheet] = field(default_factory=list[Sheet])


def build_dataset_view(report: Mapping[str, Any]) -> DatasetView:
    """The view of a report; lists under `notes` become sentences, lists of records and nested records tables."""
    view = DatasetView()
    for key, value in report.items():
        if key == "notes" and _is_list(value):
            view.notes.extend(str(note) for note in value)
        elif _is_list(value) and value and all(isinstance(entry, Mapping) for entry in value):
            view.sheets.append(_records(key, value))
            view.sheets.extend(_nested(value))
        elif isinstance(value, Mapping):
            view.sheets.append(Sheet(key, ["", ""], [[k, v] for k, v in value.items()]))
        elif _is_list(value):
            view.facts[key] = value if value else "none"
        else:
            view.facts[key] = value
    return view


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _records(title: str, records: Sequence[Mapping[str, Any]]) -> Sheet:
    """One row a record; counts by kind are added up, records of records are left to `_nested`."""
    head = [
        key
        for key in dict.fromkeys(key for record in records for key in record)
        if not _is_deep(records, key)
    ]
    rows = [[_total(record.get(key)) for key in head] for record in records[:MAX_ROWS]]
    return Sheet(title, head, rows, max(0, len(records) - MAX_ROWS))


def _nested(records: Sequence[Mapping[str, Any]]) -> list[Sheet]:
    """Tables of fields such as `yields`: for each record, records by name."""
    keys = dict.fromkeys(key for record in records for key in record if _is_deep(records, key))
    sheets: list[Sheet] = []
    for key in keys:
        rows = [
            {"": _name(record), "of": name, **inner}
            for record in records
            for name, inner in record.get(key, {}).items()
            if isinstance(inner, Mapping)
        ]
        sheets.append(_records(key, rows))
    return sheets


def _is_deep(records: Sequence[Mapping[str, Any]], key: str) -> bool:
    values = [record[key] for record in records if isinstance(record.get(key), Mapping)]
    return any(isinstance(inner, Mapping) for value in values for inner in value.values())


def _name(record: Mapping[str, Any]) -> str:
    return " ".join(str(record[key]) for key in ("name", "version") if record.get(key))


def _total(value: Any) -> Any:
    """Counts by kind as their sum; anything else as it is."""
    if isinstance(value, Mapping) and all(isinstance(count, (int, float)) for count in value.values()):
        return sum(value.values())
    return value
