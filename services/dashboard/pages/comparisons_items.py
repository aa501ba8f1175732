"""Wins and losses item by item: filters, a page of the table at a time, and one item with every arm's answer.

The platform filters and cuts; the browser holds one page of rows, however many items there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nicegui import ui

from model_training.contracts.comparison_views import Matrix, MatrixRow
from model_training.contracts.comparisons import ComparisonReport, SideBySide
from model_training.contracts.evaluations import ItemResult
from services.dashboard.app import View
from services.dashboard.layout import heading
from services.dashboard.parts import answers, show
from services.dashboard.views.item_filter import OUTCOMES, PER_PAGE, ItemFilter
from services.dashboard.views.worddiff import word_diff

CELL = """
<q-td :props="props" class="cell">
  <span v-if="props.value === null" class="soft">–</span>
  <span v-else :class="props.value.graded ? (props.value.correct ? 'ok' : 'no') : 'soft'">{{ props.value.text }}</span>
</q-td>
"""
QUESTION = """
<q-td :props="props">
  <button class="linklike" @click="() => $parent.$emit('open', props.row.position)">{{ props.value }}</button>
</q-td>
"""


def draw(view: View, report: ComparisonReport, query: Mapping[str, str]) -> None:
    """The section."""
    Items(view, report, ItemFilter.of(query)).draw()


class Items:
    """Filter, table and open item; all of it stands in the address."""

    def __init__(self, view: View, report: ComparisonReport, wanted: ItemFilter) -> None:
        self.view = view
        self.report = report
        self.arms = [arm.name for arm in report.arms]
        self.wanted = wanted
        self.matched = 0
        self._asked = self._busy = False

    def draw(self) -> None:
        """Filters, table, item."""
        with ui.element("section").classes("card"):
            heading("Item by item")
            self._filters()
            self.count = ui.label("").classes("soft small").props('role="status"')
            self.table = self._table()
            with ui.row().classes("items-center"):
                self.back = ui.button("Previous", icon="chevron_left", on_click=lambda: self._turn(-1)).props(
                    "flat"
                )
                self.where = ui.label("").classes("num")
                self.next = ui.button("Next", icon="chevron_right", on_click=lambda: self._turn(1)).props(
                    "flat"
                )
        self.item = ui.element("section").classes("live")
        ui.keyboard(on_key=self._key, ignore=["input", "select", "button", "textarea"])
        self.view.later(self._follow())
        if self.wanted.item is not None:
            self.view.later(self._open(self.wanted.item))

    def _filters(self) -> None:
        arms = {"": "any arm"} | {name: name for name in self.arms}
        suites = {name: name for arm in self.report.arms for name in arm.suites}
        forms = {kind.name: kind.name for kind in self.report.kinds if kind.by == "form"}
        with ui.element("div").classes("fields"):
            self._choice("outcome", "Outcome", {"": "all", **OUTCOMES})
            self._choice("won", "Right in", arms)
            self._choice("lost", "wrong in", arms)
            self._choice("suite", "Suite", {"": "all", **suites})
            if forms:
                self._choice("form", "Kind of question", {"": "all", **forms})
            text = ui.input("Search", value=self.wanted.search).props("outlined dense clearable debounce=300")
            text.on_value_change(lambda event: self._set(search=str(event.value or "")))

    def _choice(self, field: str, label: str, options: dict[str, str]) -> None:
        value = getattr(self.wanted, field)
        select = ui.select(
            options if value in options else {**options, value: value}, label=label, value=value
        ).props("outlined dense")
        select.on_value_change(lambda event: self._set(**{field: event.value or ""}))

    def _table(self) -> ui.table:
        columns: list[dict[str, Any]] = [
            {"name": "question", "label": "Question", "field": "question", "align": "left"},
            {"name": "suite", "label": "Suite", "field": "suite", "align": "left"},
            {"name": "form", "label": "Kind", "field": "form", "align": "left"},
        ]
        columns += [
            {"name": f"arm{i}", "label": name, "field": f"arm{i}", "align": "left"}
            for i, name in enumerate(self.arms)
        ]
        table = ui.table(columns=columns, rows=[], row_key="position").classes("items-table")
        table.props('flat dense hide-pagination :rows-per-page-options="[0]"')
        table.add_slot("body-cell-question", QUESTION)
        for i in range(len(self.arms)):
            table.add_slot(f"body-cell-arm{i}", CELL)
        table.on("open", lambda event: self.view.later(self._open(int(event.args))))
        return table

    def _set(self, **values: Any) -> None:
        self.wanted = self.wanted.changed(**values)
        self._remember()
        self.view.later(self._follow())

    def _turn(self, by: int) -> None:
        last = max(1, -(-self.matched // PER_PAGE))
        page = min(last, max(1, self.wanted.page + by))
        if page != self.wanted.page:
            self._set(page=page)

    def _remember(self) -> None:
        ui.navigate.history.replace(self.wanted.address(f"/comparisons/{self.report.id}"))

    async def _follow(self) -> None:
        """Fetch the page that is wanted, and again if another is wanted meanwhile."""
        self._asked = True
        if self._busy:
            return
        self._busy = True
        try:
            while self._asked:
                self._asked = False
                wanted = self.wanted
                found = await self.view.attempt(
                    lambda c, w=wanted: c.comparisons.matrix(
                        self.report.id, wanted=w.wanted, offset=w.offset, limit=PER_PAGE
                    )
                )
                if found is not None and not self.table.is_deleted:
                    self._show(found)
        finally:
            self._busy = False

    def _show(self, found: Matrix) -> None:
        self.matched = found.matched
        self.table.rows = [_row(row, self.arms) for row in found.rows]
        self.table.update()
        first, last = found.offset + 1, found.offset + len(found.rows)
        self.where.set_text(f"{first:,}–{last:,} of {found.matched:,}" if found.rows else "no item fits")
        counts = " · ".join(
            f"{OUTCOMES[name]}: {found.outcomes[name]:,}" for name in OUTCOMES if found.outcomes.get(name)
        )
        self.count.set_text(f"{found.items:,} items: {counts}")
        self.back.set_enabled(found.offset > 0)
        self.next.set_enabled(last < found.matched)

    def _key(self, event: Any) -> None:
        if not event.action.keydown or event.modifiers.ctrl or event.modifiers.meta or event.modifiers.alt:
            return
        step = {"j": 1, "k": -1}.get(str(event.key))
        if step is not None:
            start = self.wanted.item if self.wanted.item is not None else (-1 if step > 0 else 1)
            self.view.later(self._open(max(0, start + step)))

    async def _open(self, position: int) -> None:
        found = await self.view.attempt(lambda client: client.comparisons.item(self.report.id, position))
        if found is None or self.item.is_deleted:
            return
        self.wanted = self.wanted.changed(item=position)
        self._remember()
        self.item.clear()
        with self.item:
            _item(found, self.arms)
        ui.run_javascript(f"document.getElementById('c{self.item.id}')?.scrollIntoView({{block: 'nearest'}})")


def _row(row: MatrixRow, arms: list[str]) -> dict[str, Any]:
    def cell(arm: str) -> dict[str, Any] | None:
        found = row.cells.get(arm)
        if found is None:
            return None
        graded = found.status != "not_graded"
        mark = (
            ("✓ right" if found.correct else f"✗ {found.status.replace('_', ' ')}")
            if graded
            else "not graded"
        )
        return {"graded": graded, "correct": found.correct, "text": mark}

    cells = {f"arm{i}": cell(arm) for i, arm in enumerate(arms)}
    return {
        "position": row.position,
        "question": answers.visible(row.question),
        "suite": row.suite,
        "form": row.form,
        **cells,
    }


def _item(item: SideBySide, arms: list[str]) -> None:
    with ui.element("div").classes("card"):
        heading(f"Item {item.item_id}")
        ui.label(answers.visible(item.question)).classes("wrap pre")
        if item.reference:
            ui.label("Reference").classes("soft small")
            answers.answer(item.reference)
        ui.label("Keys: j next item, k the one before").classes("soft small")
        with ui.element("div").classes("arms"):
            for arm in arms:
                if arm in item.answers:
                    _answer(arm, item.answers[arm], item.reference)


def _answer(arm: str, found: ItemResult, reference: str) -> None:
    with ui.element("div").classes("card"):
        with ui.row().classes("items-center justify-between"):
            heading(arm, level=3)
            show.pill(
                found.status, "good" if found.correct else "" if found.status == "not_graded" else "bad"
            )()
        said = found.extracted or found.output
        runs = word_diff(reference, said) if reference and not found.correct else []
        if runs:
            answers.differences(runs)
        else:
            answers.answer(found.output or "(nothing)")
        ui.label(answers.visible(found.reason)).classes("small wrap")
        ui.label(
            f"{found.latency_s:.2f} s · {found.prompt_tokens:,} tokens read, {found.completion_tokens:,} written"
        ).classes("soft small num")
        answers.sources(found.sources, said)
        with ui.expansion("Prompt and whole output").classes("w-full").props("dense"):
            answers.answer(found.prompt)
            answers.answer(found.output)
