"""Retrieval: which indexes there are, what is in one, what a question finds in each leg, what goes into a prompt, tuning."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from nicegui import ui

from model_training.client import Client
from model_training.contracts.base import Page
from model_training.contracts.indexes import Chunk, Index, Passages, QueryHit
from model_training.contracts.jobs import FINAL_STATES, JobState
from services.dashboard.app import Dashboard, View
from services.dashboard.layout import heading
from services.dashboard.pages import retrieval_measuring
from services.dashboard.parts import answers, choices, intervals, progress, show, states
from services.dashboard.parts.following import until
from services.dashboard.views.highlight import highlight
from services.dashboard.views.legs import LEGS, NAMES, Standing, described, standings

FOUND = 10
PER_PAGE = 20


def register(dashboard: Dashboard) -> None:
    """`/retrieval`, `/retrieval/{index}`."""
    intervals.install()

    @dashboard.page("/retrieval", title="Retrieval")
    def retrieval(view: View) -> None:
        view.live("indexes", lambda client: client.indexes.list(limit=100), _list)

    @dashboard.page("/retrieval/{index}", title="Index")
    def one(view: View, index: str) -> None:
        query = dict(view.request.query_params)

        def draw(found: Index) -> None:
            _facts(found)
            if found.state is not JobState.SUCCEEDED:
                progress.unfinished(found.id, found.state, found.progress, found.error)
                return
            Searching(view, found, query).draw()
            retrieval_measuring.draw(view, found)
            Browsing(view, found, query).draw()

        until(view, lambda client: client.indexes.get(index), draw, lambda i: i.state in FINAL_STATES)


def _list(page: Page[Index]) -> None:
    if not page.data:
        states.empty(
            "There is no index yet.",
            "An index lets a model look things up: `mt rag index docs README.md docs/ your_package`, "
            "or learn a library on the page Data.",
            icon="manage_search",
        )
        return
    show.table(
        ["Index", "Version", "Passages", "Embedder", "Searched", "State", "Built"],
        [
            [
                show.link(index.name, f"/retrieval/{index.id}"),
                index.id,
                f"{index.chunks:,}",
                index.embedder,
                described(index.search),
                show.pill(index.state.value),
                show.moment(index.created_at),
            ]
            for index in page.data
        ],
        numbers=(2,),
        label="Indexes",
    )


def _facts(index: Index) -> None:
    with ui.element("section").classes("card"):
        show.tiles(
            [
                ("passages", f"{index.chunks:,}"),
                ("numbers in a vector", f"{index.dimension:,}" if index.dimension else "–"),
                ("name", index.name),
            ]
        )
        show.facts(
            [
                ("Version", index.id),
                ("Embedder", index.embedder),
                ("Searched", described(index.search)),
                ("Built", show.moment(index.created_at)),
            ]
        )


class Searching:
    """A question, what each leg finds, and what of it a model would read."""

    def __init__(self, view: View, index: Index, query: Mapping[str, str]) -> None:
        self.view, self.index, self.query = view, index, query

    def draw(self) -> None:
        """Form and findings."""
        with ui.element("section").classes("card"):
            heading("Search")
            with ui.element("div").classes("fields"):
                self.text = ui.input("Question", value=self.query.get("q", "")[:2000]).props("outlined dense")
                self.text.on("keydown.enter", self._search)
                self.model = ui.select({}, label="Model that would read it").props("outlined dense")
                ui.button("Search", icon="search", on_click=self._search)
            self.view.listen(
                self.view.feed("choices/models", lambda c: c.models.list().data, every_s=15.0), self._models
            )
            self.box = ui.element("div").classes("live").props('aria-live="polite"')
        if self.text.value:
            self.view.later(self._search())

    def _models(self, snapshot: object) -> None:
        found = getattr(snapshot, "value", None) or []
        names = [model.id for model in found if model.state == "servable"]
        keep = self.model.value if self.model.value in names else next(iter(names), None)
        self.model.set_options(names, value=keep)

    async def _search(self) -> None:
        text = str(self.text.value or "").strip()
        if not text:
            ui.notify("Write a question.", type="warning")
            return
        name = self.index.id
        ui.navigate.history.replace(f"/retrieval/{name}?{urlencode({'q': text[:1500]})}")
        self.box.clear()
        with self.box:
            states.loading("Searching")

        def ask(client: Client) -> dict[str, list[QueryHit]]:
            return {leg: client.indexes.query(name, text, limit=FOUND, mode=leg).hits for leg in LEGS}

        found = await self.view.attempt(ask)
        if self.box.is_deleted:
            return
        self.box.clear()
        with self.box:
            if found is None:
                states.error("The search failed.", "The notice says why; search again.")
                return
            rows = standings(found)
            _standings(rows, text)
            ui.button(
                "What would the model read?", icon="article", on_click=lambda: self._pack(text, rows)
            ).props("outline")
            self.packed = ui.element("div").classes("live")

    async def _pack(self, text: str, rows: list[Standing]) -> None:
        model = self.model.value
        if not model:
            ui.notify("Choose a model.", type="warning")
            return
        reply = await self.view.attempt(
            lambda client: client.chat.create(f"{choices.RAG}{self.index.id}@{model}", text, max_tokens=1)
        )
        if reply is None or self.packed.is_deleted:
            return
        packing, titles = reply.packing or {}, {row.chunk.id: row.chunk.title for row in rows}
        self.packed.clear()
        with self.packed:
            ui.label(
                f"{len(packing.get('packed', []))} passages go into the prompt: {packing.get('context_tokens', 0):,} of "
                f"{packing.get('budget', 0):,} tokens. {len(packing.get('dropped', []))} that were found are left out."
            ).classes("notice")
            answers.sources(reply.sources or [], text)
            if packing.get("dropped"):
                ui.label("Left out").classes("soft small")
                with ui.element("ul").classes("plain-list"):
                    for name in packing["dropped"]:
                        with ui.element("li"):
                            ui.label(answers.visible(f"{titles.get(name, '')} {name}".strip()))


def _standings(rows: list[Standing], question: str) -> None:
    if not rows:
        states.empty(
            "Nothing was found.", "Other words may find it; the passages below show what the index holds."
        )
        return
    ui.label("Rank and score of each passage; scores of different legs cannot be compared.").classes(
        "soft small"
    )
    show.table(
        ["Passage", *(NAMES[leg].capitalize() for leg in LEGS), "From"],
        [
            [answers.visible(row.chunk.title), *(row.said(leg) for leg in LEGS), _place(row.chunk)]
            for row in rows
        ],
        numbers=(1, 2, 3),
        label="Passages found, with rank and score in each leg",
    )
    for row in rows[:FOUND]:
        with ui.expansion(answers.visible(row.chunk.title)).classes("w-full").props("dense"):
            answers.spans(highlight(row.chunk.text, {1: question}))


def _place(chunk: Chunk) -> str:
    return answers.visible(answers.place({"source": chunk.source.model_dump(exclude_none=True)}))


class Browsing:
    """The passages themselves, page by page, or those that hold a text."""

    def __init__(self, view: View, index: Index, query: Mapping[str, str]) -> None:
        self.view, self.index = view, index
        self.text = query.get("text", "")[:200]
        page = query.get("page", "")
        self.page = max(1, int(page)) if page.isdecimal() else 1

    def draw(self) -> None:
        """Filter and passages."""
        with ui.element("section").classes("card"):
            heading("What is in it")
            field = ui.input("Only passages that hold", value=self.text).props(
                "outlined dense clearable debounce=300"
            )
            field.on_value_change(lambda event: self._set(text=str(event.value or ""), page=1))
            self.box = ui.element("div").classes("live")
            with self.box:
                states.loading()
            with ui.row().classes("items-center"):
                self.back = ui.button(
                    "Previous", icon="chevron_left", on_click=lambda: self._set(page=self.page - 1)
                ).props("flat")
                self.where = ui.label("").classes("num").props('role="status"')
                self.next = ui.button(
                    "Next", icon="chevron_right", on_click=lambda: self._set(page=self.page + 1)
                ).props("flat")
        self.view.later(self._fetch())

    def _set(self, *, text: str | None = None, page: int) -> None:
        self.text, self.page = self.text if text is None else text, max(1, page)
        said = {
            name: value for name, value in (("text", self.text), ("page", self.page)) if value not in ("", 1)
        }
        query = f"?{urlencode(said)}" if said else ""
        ui.navigate.history.replace(f"/retrieval/{self.index.id}{query}")
        self.view.later(self._fetch())

    async def _fetch(self) -> None:
        wanted = (self.text, self.page)
        offset = (self.page - 1) * PER_PAGE
        found = await self.view.attempt(
            lambda client: client.indexes.passages(
                self.index.id, text=wanted[0], offset=offset, limit=PER_PAGE
            )
        )
        if found is None or self.box.is_deleted or wanted != (self.text, self.page):
            return
        self.box.clear()
        with self.box:
            _passages(found, self.text)
        more = "" if self.text else f" of {found.total:,}"
        self.where.set_text(f"{offset + 1:,}–{offset + len(found.data):,}{more}" if found.data else "")
        self.back.set_enabled(self.page > 1)
        self.next.set_enabled(found.has_more)


def _passages(found: Passages, text: str) -> None:
    if not found.data:
        states.empty("No passage holds this." if text else "The index is empty.")
    for chunk in found.data:
        with ui.expansion(answers.visible(chunk.title)).classes("w-full").props("dense"):
            ui.label(f"{chunk.id} · {_place(chunk)}").classes("soft small wrap")
            if chunk.functions:
                ui.label(answers.visible(", ".join(chunk.functions))).classes("soft small wrap")
            answers.answer(chunk.text)
