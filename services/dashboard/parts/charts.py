"""Charts in colours that read on light and on dark ground. Names of series stay text: ECharts escapes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from services.dashboard.curves import Thin

COLORS = ("#2f83c4", "#d5621c", "#13936f", "#b0609c", "#7d8490", "#a98a12")
"""`--c0` to `--c5` of the style sheet between their light and dark forms: 3:1 and more on both grounds."""
GREY = "#7d828c"
FAINT = "rgba(125, 130, 140, .25)"


@dataclass(frozen=True)
class Series:
    """One line. `dashed` tells it from its neighbour without colour; `color` is a position in `COLORS`."""

    name: str
    points: Thin
    color: int = 0
    dashed: bool = False
    faint: bool = False


def axis(name: str = "", **more: Any) -> dict[str, Any]:
    """An axis of values."""
    return {
        "type": "value",
        "name": name,
        "nameLocation": "middle",
        "nameGap": 28,
        "nameTextStyle": {"color": GREY},
        "axisLabel": {"color": GREY},
        "axisLine": {"lineStyle": {"color": GREY}},
        "splitLine": {"lineStyle": {"color": FAINT}},
        "scale": True,
    } | more


def lines(series: Sequence[Series], *, x: str = "step", y: str = "") -> dict[str, Any]:
    """The options of a line chart with a crosshair and zoom by wheel or pinch."""
    return {
        "animation": False,
        "color": list(COLORS),
        "grid": {"left": 56, "right": 16, "top": 36, "bottom": 44},
        "legend": {
            "top": 0,
            "textStyle": {"color": GREY},
            "type": "scroll",
            "pageTextStyle": {"color": GREY},
        },
        "tooltip": {"trigger": "axis", "confine": True},
        "dataZoom": [{"type": "inside", "filterMode": "none"}],
        "xAxis": axis(x, min="dataMin", max="dataMax", nameGap=26),
        "yAxis": axis(y, nameGap=42),
        "series": [_line(one) for one in series],
    }


def _line(one: Series) -> dict[str, Any]:
    return {
        "name": one.name,
        "type": "line",
        "showSymbol": len(one.points.xs) < 40,
        "symbolSize": 5,
        "lineStyle": {
            "width": 1 if one.faint else 1.8,
            "opacity": 0.35 if one.faint else 1,
            "type": "dashed" if one.dashed else "solid",
            "color": COLORS[one.color % 6],
        },
        "itemStyle": {"color": COLORS[one.color % 6]},
        "data": [list(pair) for pair in zip(one.points.xs, one.points.ys, strict=True)],
    }


def bars(labels: Sequence[str], values: Sequence[float], *, x: str = "", y: str = "") -> dict[str, Any]:
    """The options of a bar chart, for histograms too."""
    category = axis(x, nameGap=26) | {"type": "category", "data": list(labels)}
    return {
        "animation": False,
        "color": [COLORS[0]],
        "grid": {"left": 56, "right": 16, "top": 12, "bottom": 44},
        "tooltip": {"trigger": "axis", "confine": True},
        "xAxis": category,
        "yAxis": axis(y, scale=False, nameGap=42),
        "series": [{"type": "bar", "data": list(values), "barCategoryGap": "8%"}],
    }


def draw(options: dict[str, Any], *, label: str) -> ui.echart:
    """A chart; `label` says to screen readers what it shows."""
    chart = ui.echart(options).classes("chart").props('role="img"')
    chart.props["aria-label"] = label
    return chart
