"""Curves over time, in the reader's own zone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from services.dashboard.parts.charts import COLORS, GREY, axis, draw

DASHES = ("solid", "dashed", "dotted")


def chart(
    series: Mapping[str, Sequence[tuple[int, float]]], *, unit: str, label: str, low: float | None = None
) -> ui.echart:
    """Draw curves over time.

    Args:
        series: by name: milliseconds since 1970 and value.
        unit: what values are, for the axis.
        low: where the axis begins; at the lowest value when None.
    """
    options: dict[str, Any] = {
        "animation": False,
        "useUTC": False,
        "grid": {"left": 56, "right": 16, "top": 36 if len(series) > 1 else 12, "bottom": 28},
        "tooltip": {"trigger": "axis", "confine": True},
        "xAxis": axis() | {"type": "time"},
        "yAxis": axis(unit, nameGap=42) | ({"min": low} if low is not None else {}),
        "series": [
            {
                "name": name,
                "type": "line",
                "showSymbol": len(points) < 40,
                "sampling": "lttb",
                "lineStyle": {"width": 1.8, "color": COLORS[i % 6], "type": DASHES[i // 2 % 3]},
                "itemStyle": {"color": COLORS[i % 6]},
                "data": [list(point) for point in points],
            }
            for i, (name, points) in enumerate(series.items())
        ],
    }
    if len(series) > 1:
        options["legend"] = {"top": 0, "type": "scroll", "textStyle": {"color": GREY}}
    return draw(options, label=label)
