"""Keeps the monitor's own readings: minutes for a week, hours for more than a year."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter
from sqlalchemy.orm import Session

from libs.common.errors import InvalidInput
from model_training.contracts.monitoring import History, HistoryPoint, HistorySeries
from services.monitor.domain.samples import Labels, Reading
from services.monitor.repository import history as store

LEFT_OUT = ("_bucket", "_created", "_sum", "_count")
MOST_SERIES = 100
MINUTES_AT_MOST = timedelta(days=2)
"""Longer spans are answered in hours."""
_POINTS = TypeAdapter(list[HistoryPoint])
"""A year of hours is made in one call: one by one takes twice as long as reading it."""


class HistoryKeeper:
    """A duty of the watch: gathers readings in memory, and writes each minute once it is over."""

    def __init__(self) -> None:
        self._minute: datetime | None = None
        self._gathered: dict[tuple[str, Labels], list[float]] = {}
        self._numbers: dict[tuple[str, Labels], int] = {}

    def __call__(self, session: Session, at: datetime, readings: Sequence[Reading]) -> None:
        """Take readings in; write what a minute that is over had, and roll an hour up that is."""
        minute = at.replace(second=0, microsecond=0)
        if self._minute is not None and minute != self._minute:
            self._write(session, self._minute)
            if minute.hour != self._minute.hour:
                store.roll_up(session, self._minute.replace(minute=0))
                store.forget(session, at)
                self._numbers.clear()
        self._minute = minute
        for reading in readings:
            if not reading.name.endswith(LEFT_OUT):
                self._gathered.setdefault((reading.name, reading.labels), []).append(reading.value)

    def _write(self, session: Session, minute: datetime) -> None:
        stretches: list[store.Stretch] = []
        for key, values in self._gathered.items():
            if key not in self._numbers:
                name, labels = key
                text = json.dumps(dict(labels), sort_keys=True)
                self._numbers[key] = store.series_id(session, name, dict(labels), text)
            mean = sum(values) / len(values)
            stretches.append(
                store.Stretch(self._numbers[key], minute, mean, min(values), max(values), len(values))
            )
        store.put(session, stretches)
        self._gathered.clear()


def read(
    session: Session, metric: str, match: Mapping[str, str], start: datetime | None, end: datetime | None
) -> History:
    """What a metric was: in minutes for up to two days of the last week, in hours otherwise.

    Raises:
        InvalidInput: the start lies behind the end.
    """
    until = end or datetime.now(UTC)
    since = start or until - timedelta(hours=3)
    if since >= until:
        raise InvalidInput("start must lie before end.", param="start")
    recent = since > datetime.now(UTC) - store.KEPT[store.MINUTE_S]
    resolution_s = store.MINUTE_S if until - since <= MINUTES_AT_MOST and recent else store.HOUR_S
    found: list[HistorySeries] = []
    for number, labels in store.series(session, metric, match, MOST_SERIES):
        rows = store.points(session, number, resolution_s, since, until)
        if rows:
            points = _POINTS.validate_python(
                [{"at": at, "mean": mean, "low": low, "high": high} for at, mean, low, high in rows]
            )
            found.append(HistorySeries.model_construct(labels=labels, points=points))
    return History.model_construct(metric=metric, resolution_s=resolution_s, series=found)
