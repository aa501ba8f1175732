"""Estimates with their intervals as pictures: a track, a line from end to end, a point; the figures stand beside as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nicegui import ui

from services.dashboard.views.scales import Axis, axis_over


@dataclass(frozen=True)
class Estimate:
    """One line of a picture. `low` and `high` of None: there is no interval. `tone`: good, bad, open or nothing."""

    name: str
    point: float
    low: float | None
    high: float | None
    text: str
    tone: str = ""


def install() -> None:
    """Give every page the looks of pictures and answers. Once in a process."""
    ui.add_head_html('<link rel="stylesheet" href="/static/measured.css">', shared=True)


def picture(
    rows: Sequence[Estimate],
    *,
    tick: Callable[[float], str],
    label: str,
    zero: bool = False,
    band: float | None = None,
) -> None:
    """Draw estimates over one axis.

    Args:
        tick: how a value of the axis is written.
        label: what the picture shows, for screen readers; the figures stand beside it as text.
        zero: draw the line at zero.
        band: differences up to this size are too small to matter; they are hatched.
    """
    ends = [value for row in rows for value in (row.point, row.low, row.high) if value is not None]
    axis = axis_over([*ends, *((-band, band) if band else ())])
    with ui.element("div").classes("ivs").props('role="group"') as box:
        box.props["aria-label"] = label
        for row in rows:
            ui.label(row.name).classes("iv-name")
            _track(row, axis, zero=zero, band=band)
            ui.label(row.text).classes("iv-text small")
        ui.element("div").classes("iv-pad")
        with ui.element("div").classes("iv-axis").props('aria-hidden="true"'):
            for value in axis.ticks:
                ui.label(tick(value)).style(f"left:{axis.at(value)}%")
        ui.element("div").classes("iv-pad")


def _track(row: Estimate, axis: Axis, *, zero: bool, band: float | None) -> None:
    tone = f"tone-{row.tone}" if row.tone else ""
    with ui.element("div").classes(f"iv-track {tone}").props('aria-hidden="true"'):
        if band:
            left = axis.at(-band)
            ui.element("div").classes("iv-band").style(f"left:{left}%;width:{axis.at(band) - left}%")
        if zero:
            ui.element("div").classes("iv-zero").style(f"left:{axis.at(0.0)}%")
        if row.low is not None and row.high is not None:
            left = axis.at(row.low)
            ui.element("div").classes("iv-line").style(f"left:{left}%;width:{axis.at(row.high) - left}%")
        ui.element("div").classes("iv-point").style(f"left:{axis.at(row.point)}%")
