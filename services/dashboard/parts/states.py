"""What a part of a page shows while it has nothing to show: loading, empty, failed. All as text."""

from __future__ import annotations

from nicegui import ui

from model_training.errors import UserError


def loading(text: str = "Loading") -> None:
    """A quiet sign that something comes."""
    with ui.row().classes("state items-center").props('role="status"'):
        ui.spinner(size="1.2em").props('aria-hidden="true"')
        ui.label(f"{text} …")


def empty(text: str, hint: str = "", *, icon: str = "inbox") -> ui.column:
    """There is nothing, and what to do about it. Put a button into the returned column, if there is one."""
    with ui.column().classes("state empty items-center") as box:
        ui.icon(icon, size="2rem").props('aria-hidden="true"')
        ui.label(text).classes("state-title")
        if hint:
            ui.label(hint).classes("soft")
    return box


def error(failure: UserError | str, hint: str | None = None) -> ui.column:
    """Why something cannot be shown, and the way out."""
    with ui.column().classes("state failed").props('role="alert"') as box:
        with ui.row().classes("items-center no-wrap"):
            ui.icon("error_outline", size="1.4rem").props('aria-hidden="true"')
            ui.label(failure.message if isinstance(failure, UserError) else failure).classes("state-title")
        way_out = hint or (failure.hint if isinstance(failure, UserError) else None)
        if way_out:
            ui.label(way_out).classes("soft")
    return box
