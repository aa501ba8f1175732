"""What stands around every page: the names of the pages, the notice that the gateway is away, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nicegui import app as nicegui_app
from nicegui import ui

from services.dashboard.gateway import Connection

STATIC = Path(__file__).parent / "static"


@dataclass(frozen=True)
class Entry:
    """A line of the navigation. `key` opens it, typed after a g."""

    path: str
    title: str
    icon: str
    key: str


NAVIGATION = (
    Entry("/", "Home", "home", "h"),
    Entry("/data", "Data", "dataset", "d"),
    Entry("/train", "Train", "model_training", "t"),
    Entry("/models", "Models", "hub", "m"),
    Entry("/playground", "Playground", "forum", "p"),
    Entry("/evaluations", "Evaluations", "fact_check", "e"),
    Entry("/comparisons", "Comparisons", "balance", "c"),
    Entry("/retrieval", "Retrieval", "manage_search", "r"),
    Entry("/monitoring", "Monitoring", "monitor_heart", "o"),
    Entry("/settings", "Settings", "settings", "s"),
)


def install() -> None:
    """Give every page the style sheet and the script; both come from this package, as all else comes from wheels."""
    nicegui_app.add_static_files("/static", STATIC)
    nicegui_app.colors(
        primary="#1d56b0", accent="#1d56b0", positive="#0f6b42", negative="#a8231b", warning="#7d5200",
        dark="#1c1f25", dark_page="#14161a",
    )  # fmt: skip
    ui.add_head_html(
        '<link rel="stylesheet" href="/static/dashboard.css"><script defer src="/static/dashboard.js"></script>',
        shared=True,
    )


@contextmanager
def frame(
    connection: Connection | None, title: str, paths: set[str], *, needs_login: bool
) -> Generator[Callable[[], None]]:
    """Draw header, navigation and the page's heading; the block fills the page.

    Yields:
        What has to be called when the page is gone.
    """
    here = _entry_of(ui.context.client.page.path)
    with ui.header(elevated=False).classes("bar items-center no-wrap"):
        drawer_button = ui.button(icon="menu").props('flat dense round color="" aria-label="Navigation"')
        ui.link("Model training", "/").classes("brand")
        ui.space()
        theme = ui.button(icon="contrast").props('flat dense round color="" aria-label="Light or dark"')
        theme.on("click", js_handler="() => window.dashboard.toggleTheme()")
        if needs_login and connection is not None:
            out = ui.button(icon="logout").props('flat dense round color="" aria-label="Log out"')
            out.on_click(lambda: ui.navigate.to("/logout"))
    # Open where there is room for it: the browser knows, and is not asked.
    drawer = ui.left_drawer(value=False).props("show-if-above breakpoint=900 width=210").classes("side")
    with drawer, ui.element("nav").props('aria-label="Pages"'):
        for entry in NAVIGATION:
            if entry.path in paths:
                _line(entry, current=entry is here)
    drawer_button.on_click(lambda: drawer.run_method("toggle"))
    end = _banner(connection)
    with ui.element("div").classes("page"):
        heading(title, level=1).classes("page-title")
        yield end


def heading(text: str, *, level: int = 2) -> ui.label:
    """A heading, for eyes and for screen readers. The text stays text."""
    label = ui.label(text).classes(f"h{level}")
    label.props(f'role="heading" aria-level="{level}"')
    return label


def _entry_of(path: str) -> Entry | None:
    under = [e for e in NAVIGATION if path == e.path or (e.path != "/" and path.startswith(f"{e.path}/"))]
    return under[0] if under else None


def _line(entry: Entry, *, current: bool) -> None:
    with ui.link(target=entry.path).classes("side-line" + (" current" if current else "")) as link:
        ui.icon(entry.icon).props('aria-hidden="true"')
        ui.label(entry.title)
    link.props(f'data-key="{entry.key}"' + (' aria-current="page"' if current else ""))


def _banner(connection: Connection | None) -> Callable[[], None]:
    """The notice that the gateway is away, shown as long as it is."""
    with ui.row().classes("banner items-center").props('role="status"') as row:
        ui.spinner(size="1.1em").props('aria-hidden="true"')
        ui.label("The gateway does not answer. What you see is the last that was known; trying again …")
    if connection is None:
        row.set_visibility(False)
        return lambda: None
    row.set_visibility(connection.away)
    return connection.on_away(row.set_visibility)
