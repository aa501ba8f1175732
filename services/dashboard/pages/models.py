"""Models: which can answer, which is the champion, and the way back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from nicegui import ui

from model_training.contracts.base import Page
from model_training.contracts.models import ModelAlias, ModelObject
from services.dashboard.app import Dashboard, View
from services.dashboard.feeds import Snapshot
from services.dashboard.layout import heading
from services.dashboard.parts import show, states

COLUMNS = [
    {"name": "id", "label": "Model", "field": "id", "align": "left", "sortable": True},
    {"name": "root", "label": "Base", "field": "root", "align": "left", "sortable": True},
    {"name": "state", "label": "State", "field": "state", "align": "left", "sortable": True},
    {"name": "eval_loss", "label": "Validation loss", "field": "eval_loss", "sortable": True},
    {"name": "created", "label": "Created", "field": "created", "align": "left", "sortable": True},
]


def register(dashboard: Dashboard) -> None:
    """`/models`."""

    @dashboard.page("/models", title="Models")
    def models(view: View) -> None:
        with ui.element("section").classes("card"):
            with ui.row().classes("items-center justify-between full"):
                heading("Champion")
                back = ui.button("Roll back", icon="undo", on_click=lambda: _roll_back(view)).props(
                    "outline dense padding='4px 12px'"
                )
            view.live(
                "champion-history",
                lambda c: c.models.champion_history(limit=50),
                lambda page: _champion(page, back),
            )
        with ui.element("section").classes("card"):
            with ui.row().classes("items-center justify-between full"):
                heading("All models")
                compare = ui.button("Compare two", icon="compare_arrows").props(
                    "outline dense padding='4px 12px'"
                )
            _table(view, compare)


def _champion(page: Page[ModelAlias], back: ui.button) -> None:
    back.set_enabled(len(page.data) > 1)
    if not page.data:
        states.empty("No model is the champion yet.", "Open a model and promote it.", icon="emoji_events")
        return
    now = page.data[0]
    ui.label("Whoever asks for the model `champion` is answered by").classes("soft small")
    show.link(now.model, f"/models/{now.model.rpartition('@')[2]}", mono=True)().classes("h3")
    with ui.expansion("History").classes("full group"):
        rows: list[list[show.Cell]] = [
            [
                move.version,
                show.link(move.model, f"/models/{move.model.rpartition('@')[2]}", mono=True),
                show.moment(move.created_at),
                move.reason or "no reason was given",
                f"back to version {move.restores}" if move.restores else "",
            ]
            for move in page.data
        ]
        show.table(["Version", "Model", "Since", "Why", ""], rows, numbers=[0], label="Moves of the champion")


async def _roll_back(view: View) -> None:
    reason = await ask_reason("Roll back to the champion before?", "Roll back")
    if reason is not None:
        await view.attempt(
            lambda c: c.models.rollback(reason=reason),
            done="Rolled back.",
            refresh=("champion*", "models", "model:*"),
        )


async def ask_reason(question: str, yes: str) -> str | None:
    """A dialog that asks why; None if it was left."""
    with ui.dialog() as dialog, ui.card():
        ui.label(question).classes("h3 wrap")
        reason = (
            ui.input("Why, for whoever reads the history")
            .props("outlined dense maxlength=1000 autofocus")
            .classes("full")
        )
        with ui.row():
            ui.button(yes, on_click=lambda: dialog.submit(reason.value or "")).props("unelevated")
            ui.button("Leave it", on_click=dialog.close).props("flat")
    answer = await dialog
    dialog.delete()
    return answer


def _table(view: View, compare: ui.button) -> None:
    box = ui.element("div").classes("live")
    table = ui.table(
        columns=COLUMNS, rows=[], row_key="id", selection="multiple", pagination={"rowsPerPage": 20},
        on_select=lambda _: compare.set_enabled(len(table.selected) == 2),
    )  # fmt: skip
    table.classes("full").props('flat dense :rows-per-page-options="[20, 50, 100]"')
    show.name_selection(table)
    table.add_slot("body-cell-id", show.link_slot("/models/"))
    table.add_slot("body-cell-created", show.TIME_SLOT)
    compare.set_enabled(False)
    compare.on_click(
        lambda: ui.navigate.to(f"/models/compare?a={table.selected[0]['id']}&b={table.selected[1]['id']}")
    )

    def changed(snapshot: Snapshot[Page[ModelObject]]) -> None:
        box.clear()
        with box:
            if snapshot.value is None and snapshot.error is not None:
                states.error(snapshot.error)
            elif snapshot.value is not None and not snapshot.value.data:
                states.empty("There is no model here.", "`mt models prepare` fetches a base.", icon="hub")
        rows = [_row(model) for model in snapshot.value.data] if snapshot.value is not None else []
        table.set_visibility(bool(rows))
        if rows != table.rows:
            table.rows = rows

    view.listen(view.feed("models", lambda c: c.models.list(), every_s=10), changed)


def _row(model: ModelObject) -> dict[str, Any]:
    loss = model.metrics.get("eval_loss")
    return {
        "id": model.id,
        "root": model.root or "– (a base)",
        "state": ", ".join([model.state, *model.aliases]),
        "eval_loss": None if loss is None else round(loss, 4),
        "created": datetime.fromtimestamp(model.created, UTC).isoformat(),
    }
