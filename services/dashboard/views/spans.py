"""Stretches of time to look back over, and histories as curves over them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from model_training.contracts.monitoring import History

SPANS = {
    "1h": ("an hour", timedelta(hours=1)),
    "3h": ("three hours", timedelta(hours=3)),
    "24h": ("a day", timedelta(days=1)),
    "7d": ("a week", timedelta(days=7)),
    "90d": ("three months", timedelta(days=90)),
}
MOST_SERIES = 6


def start_of(span: str, now: datetime | None = None) -> datetime:
    """Where a stretch begins."""
    return (now or datetime.now(UTC)) - SPANS[span][1]


def curves(found: History, *, factor: float = 1.0) -> dict[str, list[tuple[int, float]]]:
    """By series: points of milliseconds since 1970 and value, the series of most points first.

    Args:
        factor: what values are multiplied by, 100 for percent.
    """
    named = {
        ", ".join(f"{value}" for _, value in sorted(series.labels.items())) or "all": [
            (int(point.at.timestamp() * 1000), factor * point.mean) for point in series.points
        ]
        for series in found.series
    }
    order = sorted(named, key=lambda name: (-len(named[name]), name))
    return {name: named[name] for name in order[:MOST_SERIES] if named[name]}
