"""Data: files that were uploaded, and bringing in new ones by dropping them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from nicegui import events, ui

from model_training.client import ApiError
from model_training.contracts.base import Page
from model_training.contracts.files import FileObject, FilePurpose
from model_training.errors import UserError
from services.dashboard.app import Dashboard, View
from services.dashboard.feeds import Snapshot
from services.dashboard.layout import heading
from services.dashboard.parts import show, states

PURPOSES = {
    FilePurpose.FINE_TUNE.value: "training rows: questions with answers",
    FilePurpose.CHUNKS.value: "passages for retrieval",
    FilePurpose.EVALUATION.value: "items to evaluate on",
}
COLUMNS = [
    {"name": "filename", "label": "File", "field": "filename", "align": "left", "sortable": True},
    {"name": "purpose", "label": "For", "field": "purpose", "align": "left", "sortable": True},
    {
        "name": "bytes",
        "label": "Size",
        "field": "bytes",
        "sortable": True,
        ":format": "v => (v / 1e6).toFixed(2) + ' MB'",
    },
    {"name": "created", "label": "Uploaded", "field": "created", "align": "left", "sortable": True},
    {"name": "id", "label": "Id", "field": "id", "align": "left"},
]

DROP_HEAD = """<label class="drop-head"><span>Drop files here</span><q-uploader-add-trigger /></label>"""


def register(dashboard: Dashboard) -> None:
    """`/data`."""

    @dashboard.page("/data", title="Data")
    def data(view: View) -> None:
        with ui.element("div").classes("grid wide"):
            _upload_card(view)
            _learn_card()
        _files(view)


def _learn_card() -> None:
    with ui.element("section").classes("card"):
        heading("Learn a library")
        ui.label(
            "From a package that is installed: training rows, passages and questions with checked answers. Then training, "
            "retrieval, and a comparison that says which of them was worth it."
        ).classes("soft")
        ui.button("Begin", icon="school", on_click=lambda: ui.navigate.to("/data/learn")).props(
            "unelevated"
        ).classes("self-start")


def _upload_card(view: View) -> None:
    with ui.element("section").classes("card"):
        heading("Upload")
        ui.label("JSON Lines, JSON, CSV or Parquet; every row is checked on arrival.").classes("soft")
        purpose = ui.select(PURPOSES, value=FilePurpose.FINE_TUNE.value, label="What it is for").props(
            "outlined dense"
        )
        answer = ui.element("div").classes("live").props('aria-live="polite"')

        async def arrived(event: events.UploadEventArguments) -> None:
            answer.clear()
            with answer:
                states.loading(f"Checking {event.file.name}")
            await _take(view, event, str(purpose.value), answer)
            upload.reset()

        upload = (
            ui.upload(multiple=True, auto_upload=True, on_upload=arrived)
            .classes("full drop")
            .props("flat bordered")
        )
        upload.add_slot("header", DROP_HEAD)
        choose = ui.button("Choose files", icon="upload_file").props("outline").classes("self-start")
        # In the browser: only there is the click known to be a person's, which choosing files needs.
        choose.on("click", js_handler=f"() => runMethod({upload.id}, 'pickFiles', [])")


async def _take(view: View, event: events.UploadEventArguments, purpose: str, answer: ui.element) -> None:
    """Pass an upload on; its bytes lie in a file of their own until the gateway has them."""
    folder = view.dashboard.shelf.folder / uuid4().hex
    folder.mkdir()
    path = folder / (Path(event.file.name).name or "upload.jsonl")
    try:
        await event.file.save(path)
        found = await view.call(lambda c: c.files.upload(path, purpose))
    except UserError as error:
        _refused(answer, event.file.name, error)
    except OSError as error:
        _refused(answer, event.file.name, UserError(f"The file cannot be kept: {error.strerror}."))
    else:
        view.refresh("files*")
        answer.clear()
        with answer, ui.row().classes("notice good items-center"):
            ui.label("Every row can be used.")
            show.link(f"See {found.filename}", f"/data/{found.id}")()
            if purpose == FilePurpose.FINE_TUNE.value:
                show.link("Train on it", f"/train/new?file={found.id}")()
    finally:
        path.unlink(missing_ok=True)
        folder.rmdir()


def _refused(answer: ui.element, name: str, error: UserError) -> None:
    answer.clear()
    with answer:
        states.error(f"{name}: {error.message}", error.hint)
        if isinstance(error, ApiError) and error.rows:
            rows: list[list[show.Cell]] = [
                [row.row, row.field or "", row.message] for row in error.rows[:100]
            ]
            show.table(["Row", "Field", "What is wrong"], rows, numbers=[0], label="Faulty rows")


def _files(view: View) -> None:
    with ui.element("section").classes("card"):
        heading("Files")
        box = ui.element("div").classes("live")
        table = ui.table(columns=COLUMNS, rows=[], row_key="id", pagination={"rowsPerPage": 20}).classes(
            "full"
        )
        table.props('flat dense :rows-per-page-options="[20, 50, 100]"')
        table.add_slot("body-cell-filename", show.link_slot("/data/"))
        table.add_slot("body-cell-created", show.TIME_SLOT)

    def changed(snapshot: Snapshot[Page[FileObject]]) -> None:
        box.clear()
        with box:
            if snapshot.value is None and snapshot.error is not None:
                states.error(snapshot.error)
            elif snapshot.value is not None and not snapshot.value.data:
                states.empty("There are no files yet.", "Drop one above, or learn a library.", icon="dataset")
        rows = [_row(file) for file in snapshot.value.data] if snapshot.value is not None else []
        table.set_visibility(bool(rows))
        if rows != table.rows:
            table.rows = rows

    view.listen(view.feed("files", lambda c: c.files.list(limit=100)), changed)


def _row(file: FileObject) -> dict[str, Any]:
    return {
        "id": file.id,
        "filename": file.filename,
        "purpose": PURPOSES[file.purpose.value].partition(":")[0],
        "bytes": file.bytes,
        "created": datetime.fromtimestamp(file.created_at, UTC).isoformat(),
    }
