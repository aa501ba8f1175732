"""Small things that many pages show: pills, tiles, plain tables, times, sizes, numbers with units. All text stays text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

from nicegui import ui

Tone = Literal["", "good", "bad", "warn", "info"]
Cell = str | float | int | None | Callable[[], object]
"""What stands in a table's cell: text, a number, or a function that draws it."""

TONES: dict[str, Tone] = {
    "succeeded": "good", "running": "info", "failed": "bad", "cancelled": "", "paused": "warn", "pausing": "warn",
    "cancelling": "warn", "queued": "", "validating_files": "",
    "servable": "good", "pending": "warn", "refused": "bad",
    "passed": "good", "firing": "bad", "resolved": "good", "page": "bad", "ticket": "warn", "info": "info",
}  # fmt: skip
"""How well-known words are coloured; the word itself always stands there too."""

TIME_SLOT = (
    """<q-td :props="props"><time :datetime="props.value"><span>{{ props.value }}</span></time></q-td>"""
)
"""For a column of a `ui.table` that holds times in ISO form; the browser writes them in its own zone."""


def name_selection(rows: ui.table) -> None:
    """Give the boxes that choose a table's rows names, for screen readers."""
    rows.add_slot(
        "header-selection", '<q-checkbox dense v-model="props.selected" aria-label="Choose all rows" />'
    )
    row = '<q-checkbox dense v-model="props.selected" :aria-label="`Choose ${props.row.id}`" />'
    rows.add_slot("body-selection", row)


def link_slot(prefix: str, field: str = "id") -> str:
    """For a column of a `ui.table`: its text as a link to `prefix` and the row's `field`."""
    target = f"'{prefix}' + encodeURIComponent(props.row.{field})"
    return f"""<q-td :props="props"><a class="wrap" :href="{target}">{{{{ props.value }}}}</a></q-td>"""


def pill(text: str, tone: Tone | None = None) -> Callable[[], ui.label]:
    """A word on a coloured ground, to be drawn in a cell or at once by calling it."""
    chosen = tone if tone is not None else TONES.get(str(text), "")
    return lambda: ui.label(str(text).replace("_", " ")).classes(f"pill {chosen}")


def link(text: str, target: str, *, mono: bool = False) -> Callable[[], ui.link]:
    """A link, to be drawn in a cell or at once by calling it."""
    return lambda: ui.link(text, target).classes("mono wrap" if mono else "wrap")


def tiles(pairs: Sequence[tuple[str, str]]) -> None:
    """Large figures with what they mean below: pairs of label and value."""
    with ui.element("div").classes("tiles"):
        for label, value in pairs:
            with ui.element("div").classes("tile"):
                ui.label(value).classes("tile-value")
                ui.label(label).classes("tile-label")


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    numbers: Sequence[int] = (),
    label: str = "",
    stacked: bool | None = None,
) -> None:
    """A plain table. For up to some hundred rows.

    Args:
        numbers: positions of columns that are aligned to the right.
        label: what the table is, for screen readers.
        stacked: on a phone every row becomes a list of names and values, else the table scrolls sideways; by default so from
            four columns on.
    """
    is_stacked = len(columns) > 3 if stacked is None else stacked
    with ui.element("div").classes("scroll").props('tabindex="0" role="region"') as region:
        region.props["aria-label"] = label or ", ".join(name for name in columns if name)
        with ui.element("table").classes("plain stacked" if is_stacked else "plain"):
            with ui.element("thead"), ui.element("tr"):
                for position, name in enumerate(columns):
                    with ui.element("th").classes("n" if position in numbers else "").props('scope="col"'):
                        ui.label(name)
            with ui.element("tbody"):
                for row in rows:
                    with ui.element("tr"):
                        for position, cell in enumerate(row):
                            with ui.element("td").classes("n" if position in numbers else "") as box:
                                box.props["data-label"] = columns[position]
                                _draw(cell)


def _draw(cell: Cell) -> None:
    if callable(cell):
        cell()
    elif cell is not None:
        ui.label(cell if isinstance(cell, str) else number(cell)).classes("wrap")


def facts(pairs: Sequence[tuple[str, Cell]]) -> None:
    """Names and values below each other."""
    with ui.element("div").classes("facts"):
        for name, value in pairs:
            ui.label(name).classes("soft small")
            with ui.element("div"):
                _draw(value)


def number(value: float | None, digits: int = 4) -> str:
    """A number with thousands set off and so many significant digits: 1,234,567; 0.01234; 2e-05."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def size(count: float | None) -> str:
    """Bytes in the unit that fits: 1.4 GB."""
    if count is None:
        return "–"
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def duration(seconds: float | None) -> str:
    """Seconds in words: 8 s, 3 min 5 s, 2 h 10 min, 4 days 3 h."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    for limit, (big, small), (one, two) in (
        (60, (1, 0), ("s", "")),
        (3600, (60, 1), ("min", "s")),
        (2 * 86400, (3600, 60), ("h", "min")),
    ):
        if whole < limit:
            first, rest = divmod(whole, big)
            second = rest // small if small else 0
            return f"{first} {one}" + (f" {second} {two}" if second else "")
    days, rest = divmod(whole, 86400)
    return f"{days} days" + (f" {rest // 3600} h" if rest >= 3600 else "")


def dollars(amount: float | None) -> str:
    """US dollars: $1.20, $0.0035."""
    if amount is None:
        return "–"
    return f"${amount:,.2f}" if abs(amount) >= 1 or amount == 0 else f"${amount:.2g}"


def percent(share: float | None) -> str:
    """A share from 0 to 1: 34.6%."""
    return "–" if share is None else f"{100 * share:.3g}%"


def moment(at: datetime | float | int | None) -> Callable[[], ui.element]:
    """A time in the reader's own zone, exact in the title; to be drawn in a cell or at once by calling it.

    Args:
        at: with its zone, or in Unix seconds.
    """
    if at is None:
        return lambda: ui.label("–")
    when = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
    iso = when.astimezone(UTC).isoformat(timespec="seconds")

    def draw() -> ui.element:
        with ui.element("time").props(f'datetime="{iso}"') as element:
            ui.label(f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
        return element

    return draw
