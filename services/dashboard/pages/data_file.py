"""One file: what the check found, how long its rows are, what else is wrong with it, and the rows themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from nicegui import ui

from model_training.client import Client
from model_training.contracts.base import Page
from model_training.contracts.files import FileObject, FilePurpose, FileReport
from model_training.datasets.findings import ADVICE, CheckReport
from model_training.errors import UserError
from services.dashboard.app import Dashboard, View
from services.dashboard.datafiles import Book, Row, check_command
from services.dashboard.feeds import Snapshot
from services.dashboard.layout import heading
from services.dashboard.parts import charts, show, states

PAGE_ROWS = 10
SHOWN_FINDINGS = 200
CHECKS_AT_ONCE = asyncio.Semaphore(1)
"""A check takes a core."""


def register(dashboard: Dashboard) -> None:
    """`/data/{file_id}`."""

    @dashboard.page("/data/{file_id}", title="File")
    def file(view: View, file_id: str, page: int = 1, find: str = "") -> None:
        view.live(
            f"file:{file_id}",
            lambda c: _described(c, file_id),
            lambda found: _summary(view, *found),
            every_s=30,
        )
        with ui.element("div").classes("grid wide"):
            with _card("Lengths of rows"):
                lengths = ui.element("div").classes("live")
            with _card("Thorough check"):
                _Check(view, file_id)
        with _card("Rows"):
            rows = _Rows(view, file_id, max(1, page), find)
        view.later(_open(view, file_id, lengths, rows))


def _described(client: Client, file_id: str) -> tuple[FileObject, FileReport]:
    return client.files.get(file_id), client.files.report(file_id)


def _card(title: str) -> ui.element:
    card = ui.element("section").classes("card")
    with card:
        heading(title)
    return card


def _summary(view: View, file: FileObject, report: FileReport) -> None:
    with ui.element("section").classes("card"):
        with ui.row().classes("items-center justify-between full"):
            heading(file.filename).classes("wrap")
            with ui.row():
                if file.purpose == FilePurpose.FINE_TUNE:
                    train = f"/train/new?file={file.id}"
                    ui.button(
                        "Train on it", icon="model_training", on_click=lambda: ui.navigate.to(train)
                    ).props("unelevated")
                delete = ui.button("Delete", icon="delete").props("outline color=negative")
                delete.on_click(lambda: _delete(view, file))
        show.tiles(
            [
                ("rows", f"{report.rows:,}"),
                ("characters", f"{report.characters:,}"),
                ("characters a row", show.number(report.characters / max(1, report.rows), 3)),
                ("repeated rows", f"{report.duplicates:,}"),
                ("faulty rows", f"{report.fault_count:,}"),
                ("size", show.size(file.bytes)),
            ]
        )
        pairs: list[tuple[str, show.Cell]] = [("id", lambda: ui.label(file.id).classes("mono wrap"))]
        pairs += [("for", file.purpose.value), ("uploaded", show.moment(file.created_at))]
        pairs += [("sha256", lambda: ui.label(file.sha256).classes("mono wrap"))]
        pairs += [(f"rows: {kind}", f"{count:,}") for kind, count in report.kinds.items()]
        show.facts(pairs)
        if report.faults:
            rows: list[list[show.Cell]] = [[one.row, one.field or "", one.message] for one in report.faults]
            show.table(["Row", "Field", "What is wrong"], rows, numbers=[0], label="Faulty rows")


async def _delete(view: View, file: FileObject) -> None:
    with ui.dialog() as dialog, ui.card():
        ui.label(f"Delete {file.filename}?").classes("h3")
        ui.label(
            "Jobs that have ended keep what they learnt. A file that a job still needs is refused."
        ).classes("soft")
        with ui.row():
            ui.button("Delete", on_click=lambda: dialog.submit(True)).props("unelevated color=negative")
            ui.button("Keep it", on_click=lambda: dialog.submit(False)).props("flat")
    if await dialog and await view.attempt(lambda c: c.files.delete(file.id), refresh=("files*",)):
        ui.navigate.to("/data")
    dialog.delete()


async def _open(view: View, file_id: str, lengths: ui.element, rows: _Rows) -> None:
    """Fetch the file, then draw what stands in it."""
    with lengths:
        states.loading("Reading the rows")
    try:
        book = await view.call(lambda c: view.dashboard.shelf.open(c, c.files.get(file_id)))
    except UserError as error:
        lengths.clear()
        with lengths:
            states.error(error)
        return
    lengths.clear()
    with lengths:
        bins = book.histogram()
        options = charts.bars(
            [f"{one.up_to:,}" for one in bins], [one.rows for one in bins], x="characters, up to", y="rows"
        )
        charts.draw(options, label="Histogram: rows by their length in characters")
    await rows.open(book)


class _Rows:
    """The rows, a page at a time, and those that hold a text."""

    def __init__(self, view: View, file_id: str, page: int, find: str) -> None:
        self._view = view
        self._address = f"/data/{file_id}"
        self._page = page
        self._book: Book | None = None
        with ui.row().classes("items-center full"):
            self._find = (
                ui.input("Find a text", value=find)
                .props("outlined dense clearable debounce=400")
                .style("min-width: 220px")
            )
            self._back = ui.button(icon="chevron_left").props('flat round aria-label="Rows before"')
            self._where = ui.label("").classes("num soft")
            self._on = ui.button(icon="chevron_right").props('flat round aria-label="Rows after"')
        self._box = ui.element("div").classes("live")
        self._find.on_value_change(lambda: self._go(1))
        self._back.on_click(lambda: self._go(self._page - 1))
        self._on.on_click(lambda: self._go(self._page + 1))

    async def open(self, book: Book) -> None:
        """Show the page that the address names."""
        self._book = book
        await self._show()

    async def _go(self, page: int) -> None:
        self._page = max(1, page)
        await self._show()
        text = f"&find={quote(str(self._find.value))}" if self._find.value else ""
        ui.navigate.history.replace(f"{self._address}?page={self._page}{text}")

    async def _show(self) -> None:
        book, text = self._book, str(self._find.value or "")
        if book is None:
            return
        first = (self._page - 1) * PAGE_ROWS
        if text:
            found, count = await asyncio.to_thread(book.find, text, first, PAGE_ROWS)
        else:
            found, count = await asyncio.to_thread(book.rows, first, PAGE_ROWS), len(book)
        self._where.set_text(f"{min(first + 1, count):,} to {min(first + PAGE_ROWS, count):,} of {count:,}")
        self._back.set_enabled(self._page > 1)
        self._on.set_enabled(first + PAGE_ROWS < count)
        self._box.clear()
        with self._box:
            if not found:
                states.empty(
                    "No row holds this text." if text else "The file has no rows.", icon="search_off"
                )
            for row in found:
                _row(row)


def _row(row: Row) -> None:
    with ui.element("article").classes("data-row"):
        ui.label(f"row {row.number:,}").classes("small soft num")
        show.facts([(name, _value(value)) for name, value in row.values.items()])


def _value(value: Any) -> Callable[[], ui.label]:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
    return lambda: ui.label(text).classes("mono pre")


class _Check:
    """Secrets, conflicts, repeated rows, and leaks of an evaluation file, on request: it takes a core for a while."""

    def __init__(self, view: View, file_id: str) -> None:
        self._view = view
        self._file_id = file_id
        ui.label(
            "Looks for secrets, repeated and contradicting rows, and for evaluation items that stand in these rows."
        ).classes("soft")
        with ui.row().classes("items-center full"):
            self._against = (
                ui.select({}, label="Leaks of (evaluation file)")
                .props("outlined dense clearable")
                .style("min-width: 240px")
            )
            self._button = ui.button("Check", icon="fact_check", on_click=self._run).props("unelevated")
        self._answer = ui.element("div").classes("live").props('aria-live="polite"')
        feed = view.feed(
            "files:evaluation", lambda c: c.files.list(purpose=FilePurpose.EVALUATION, limit=100), every_s=30
        )
        view.listen(feed, self._offer)

    def _offer(self, found: Snapshot[Page[FileObject]]) -> None:
        if found.value is not None:
            self._against.set_options(
                {file.id: file.filename for file in found.value.data}, value=self._against.value
            )

    async def _run(self) -> None:
        self._button.set_enabled(False)
        self._answer.clear()
        with self._answer:
            states.loading("Checking every row")
        try:
            report = await self._report()
        except UserError as error:
            self._answer.clear()
            with self._answer:
                states.error(error)
        else:
            self._answer.clear()
            with self._answer:
                _findings(report)
        self._button.set_enabled(True)

    async def _report(self) -> CheckReport:
        shelf = self._view.dashboard.shelf
        file, held_out = await self._view.call(lambda c: self._fetch(c))
        evaluation = shelf.original(held_out.sha256, held_out.filename) if held_out else None
        command = check_command(shelf.original(file.sha256, file.filename), file.purpose.value, evaluation)
        async with CHECKS_AT_ONCE:
            return await _checked(command)

    def _fetch(self, client: Client) -> tuple[FileObject, FileObject | None]:
        """The file and the one to look for in it; both are here afterwards."""
        file = client.files.get(self._file_id)
        self._view.dashboard.shelf.open(client, file)
        if not self._against.value:
            return file, None
        other = client.files.get(str(self._against.value))
        self._view.dashboard.shelf.open(client, other)
        return file, other


async def _checked(command: list[str]) -> CheckReport:
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
    try:
        return CheckReport.model_validate_json(out)
    except ValueError as error:
        last = err.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise UserError(f"The check failed: {' '.join(last) or 'no reason was given'}.") from error


def _findings(report: CheckReport) -> None:
    tone, words = ("bad", f"{report.errors:,} errors") if report.errors else ("good", "No errors")
    ui.label(f"{words}, {report.warnings:,} warnings in {report.rows:,} rows.").classes(f"notice {tone}")
    for check, count in report.counts.items():
        with ui.element("div"):
            ui.label(f"{check.value}: {count:,}").classes("state-title")
            ui.label(ADVICE[check]).classes("small soft")
    rows: list[list[show.Cell]] = [
        [
            one.row,
            show.pill(one.check.value, "bad" if one.severity == "error" else "warn"),
            one.field or "",
            one.message,
        ]
        for one in report.findings[:SHOWN_FINDINGS]
    ]
    if rows:
        show.table(["Row", "Finding", "Field", "What"], rows, numbers=[0], label="Findings by row")
    for note in report.notes:
        ui.label(note).classes("small soft")
