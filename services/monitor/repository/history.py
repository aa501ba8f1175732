"""The history of metrics: minutes for a week, hours for more than a year."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, literal, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.db.tables import MetricHistoryRow, MetricSeriesRow

MINUTE_S, HOUR_S = 60, 3600
KEPT = {MINUTE_S: timedelta(days=7), HOUR_S: timedelta(days=400)}
H = MetricHistoryRow
_PUT = text(
    """
    insert into metric_history (series_id, resolution_s, at, mean, low, high, count)
    select series_id, :resolution_s, at, mean, low, high, count
    from unnest(
        cast(:series_id as bigint[]), cast(:at as timestamptz[]), cast(:mean as float8[]), cast(:low as float8[]),
        cast(:high as float8[]), cast(:count as integer[])
    ) as given (series_id, at, mean, low, high, count)
    on conflict (series_id, resolution_s, at) do update
    set mean = excluded.mean, low = excluded.low, high = excluded.high, count = excluded.count
    """
)
"""Arrays instead of a statement a row: several times as fast."""


@dataclass(frozen=True)
class Stretch:
    """A series over one stretch of time."""

    series_id: int
    at: datetime
    mean: float
    low: float
    high: float
    count: int


def series_id(session: Session, name: str, labels: Mapping[str, str], key: str) -> int:
    """The number of a series; a new one is written down."""
    query = select(MetricSeriesRow.id).where(MetricSeriesRow.name == name, MetricSeriesRow.labels_key == key)
    found = session.scalar(query)
    if found is None:
        row = insert(MetricSeriesRow).values(name=name, labels=dict(labels), labels_key=key)
        session.execute(row.on_conflict_do_nothing())
        found = session.execute(query).scalar_one()
    return found


def put(session: Session, stretches: Sequence[Stretch], resolution_s: int = MINUTE_S) -> None:
    """Write stretches down. One that is there already is replaced: a monitor that was restarted repeats its minute."""
    if not stretches:
        return
    columns = {
        name: [getattr(one, name) for one in stretches]
        for name in ("series_id", "at", "mean", "low", "high", "count")
    }
    session.execute(_PUT, {**columns, "resolution_s": resolution_s})


def roll_up(session: Session, hour: datetime) -> None:
    """Make the hour that begins then of its minutes. Doing it again gives the same."""
    hours = (
        select(
            H.series_id,
            literal(HOUR_S),
            literal(hour),
            func.sum(H.mean * H.count) / func.sum(H.count),
            func.min(H.low),
            func.max(H.high),
            func.sum(H.count),
        )
        .where(H.resolution_s == MINUTE_S, H.at >= hour, H.at < hour + timedelta(hours=1))
        .group_by(H.series_id)
    )
    columns = ["series_id", "resolution_s", "at", "mean", "low", "high", "count"]
    statement = insert(H).from_select(columns, hours)
    changed = {name: statement.excluded[name] for name in ("mean", "low", "high", "count")}
    session.execute(
        statement.on_conflict_do_update(index_elements=["series_id", "resolution_s", "at"], set_=changed)
    )


def forget(session: Session, at: datetime) -> None:
    """Drop what is too old, and series of which nothing is left."""
    for resolution_s, kept in KEPT.items():
        session.execute(delete(H).where(H.resolution_s == resolution_s, H.at < at - kept))
    used = select(H.series_id).where(H.series_id == MetricSeriesRow.id).exists()
    session.execute(delete(MetricSeriesRow).where(~used))


def series(
    session: Session, name: str, labels: Mapping[str, str], limit: int
) -> list[tuple[int, dict[str, str]]]:
    """The series of a metric with these labels, newest first."""
    query = (
        select(MetricSeriesRow.id, MetricSeriesRow.labels)
        .where(MetricSeriesRow.name == name, MetricSeriesRow.labels.contains(dict(labels)))
        .order_by(MetricSeriesRow.id.desc())
        .limit(limit)
    )
    return [(number, found) for number, found in session.execute(query)]


def points(
    session: Session, number: int, resolution_s: int, start: datetime, end: datetime
) -> list[tuple[datetime, float, float, float]]:
    """Time, mean, low and high of a series, in order."""
    query = (
        select(H.at, H.mean, H.low, H.high)
        .where(H.series_id == number, H.resolution_s == resolution_s, H.at >= start, H.at < end)
        .order_by(H.at)
    )
    return [(at, mean, low, high) for at, mean, low, high in session.execute(query)]
