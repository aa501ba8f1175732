"""Evaluations: one model on its suites, from the rates down to each answer; the gate against an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from nicegui import ui

from model_training.contracts.base import Page
from model_training.contracts.evaluations import (
    Evaluation,
    EvaluationCreate,
    ItemResult,
    SuiteSpec,
    SuiteSummary,
)
from model_training.contracts.evaluations_gate import GateReply, GateRequest
from model_training.contracts.jobs import FINAL_STATES, JobState
from services.dashboard.app import Dashboard, View
from services.dashboard.layout import heading
from services.dashboard.parts import answers, choices, intervals, progress, show, states
from services.dashboard.parts.following import until
from services.dashboard.parts.intervals import Estimate, picture
from services.dashboard.views.scales import points, rate_words
from services.dashboard.views.worddiff import word_diff

PER_PAGE = 20
STATUSES = {
    "": "all",
    "passed": "right",
    "wrong": "wrong",
    "error": "raised an error",
    "no_answer": "no answer found",
    "timeout": "took too long",
    "not_called": "library not called",
}


def register(dashboard: Dashboard) -> None:
    """`/evaluations`, `/evaluations/new`, `/evaluations/{id}`."""
    intervals.install()

    @dashboard.page("/evaluations", title="Evaluations")
    def evaluations(view: View) -> None:
        ui.button("Evaluate", icon="fact_check", on_click=lambda: ui.navigate.to("/evaluations/new")).classes(
            "self-start"
        )
        view.live("evaluations", lambda client: client.evaluations.list(limit=100), _list, every_s=10.0)

    @dashboard.page("/evaluations/new", title="Evaluate")
    def new(view: View) -> None:
        _form(view)

    @dashboard.page("/evaluations/{evaluation_id}", title="Evaluation")
    def evaluation(view: View, evaluation_id: str) -> None:
        query = dict(view.request.query_params)

        def draw(found: Evaluation) -> None:
            ui.label(f"{found.id} · {found.model}").classes("soft small wrap")
            if found.state is not JobState.SUCCEEDED:
                progress.unfinished(found.id, found.state, found.progress, found.error)
            if found.suites:
                _suites(found)
            if found.state is JobState.SUCCEEDED:
                _gate(view, found)
                Items(view, found, query).draw()

        until(
            view,
            lambda client: client.evaluations.get(evaluation_id),
            draw,
            lambda e: e.state in FINAL_STATES,
        )


def _list(page: Page[Evaluation]) -> None:
    if not page.data:
        states.empty(
            "Nothing has been evaluated yet.",
            "An evaluation puts a file of questions to one model and grades its answers.",
        )
        return
    show.table(
        ["Evaluation", "Model", "Right", "State", "Begun"],
        [
            [
                show.link(one.id, f"/evaluations/{one.id}", mono=True),
                one.model,
                "; ".join(
                    f"{s.suite} {s.correct:,} of {s.n:,} ({show.percent(s.pass_rate)})" for s in one.suites
                )
                or "–",
                show.pill(one.state.value),
                show.moment(one.created_at),
            ]
            for one in page.data
        ],
        label="Evaluations",
    )


def _form(view: View) -> None:
    with ui.element("section").classes("card"):
        heading("What to evaluate")
        with ui.element("div").classes("fields"):
            models = choices.arms(view, label="Models", usual=False)
            file = choices.evaluation_file(view)
            limit = ui.number("Items of each suite", value=50, min=1, max=100_000, precision=0)
            limit.props('outlined dense suffix="items"')

        async def start() -> None:
            if not models.value or not file.value:
                ui.notify("Choose a model and a file with evaluation items.", type="warning")
                return
            names = await view.attempt(lambda client: choices.suites_of(client, str(file.value)))
            if names is None:
                return
            count = int(limit.value) if limit.value else None
            suites = [SuiteSpec(name=name, file=str(file.value), limit=count) for name in names]
            made: Evaluation | None = None
            for model in models.value:
                request = EvaluationCreate(model=model, suites=suites)
                made = await view.attempt(
                    lambda c, r=request: c.evaluations.create(r), refresh=("evaluations", "jobs*")
                )
            if made is not None:
                ui.navigate.to(f"/evaluations/{made.id}" if len(models.value) == 1 else "/evaluations")

        ui.button("Evaluate", icon="fact_check", on_click=start).classes("self-start")


def _suites(found: Evaluation) -> None:
    with ui.element("section").classes("card"):
        heading("How often it is right")
        picture(
            [_rate(suite) for suite in found.suites],
            tick=lambda v: f"{100 * v:g}%",
            label="Share of right answers with 95% intervals",
        )
        show.facts(
            [
                ("Prompts", answers.visible(found.prompt_description or "the question alone")),
                ("Time", show.duration(found.duration_s)),
                ("Kept apart by", found.isolation or "–"),
                ("Statuses", "; ".join(_statuses(suite) for suite in found.suites)),
                ("Form at fault", f"{sum(suite.extraction_failed for suite in found.suites):,} answers"),
            ]
        )


def _rate(suite: SuiteSummary) -> Estimate:
    text = rate_words(suite.correct, suite.n, suite.pass_rate, suite.ci_low, suite.ci_high)
    return Estimate(suite.suite, suite.pass_rate, suite.ci_low, suite.ci_high, text)


def _statuses(suite: SuiteSummary) -> str:
    return ", ".join(f"{count:,} {status.replace('_', ' ')}" for status, count in suite.statuses.items())


def _gate(view: View, found: Evaluation) -> None:
    """Has it got worse than an earlier evaluation?"""
    with ui.element("section").classes("card"):
        heading("Has it got worse?")
        with ui.element("div").classes("fields"):
            baseline = ui.select({}, label="Held against").props("outlined dense")
            button = ui.button("Compare", icon="compare_arrows").props("outline")
        box = ui.element("div").classes("live").props('aria-live="polite"')

        def changed(snapshot: object) -> None:
            page = getattr(snapshot, "value", None)
            others = [
                e for e in (page.data if page else []) if e.id != found.id and e.state is JobState.SUCCEEDED
            ]
            options = {e.id: f"{e.id} · {e.model}" for e in others}
            baseline.set_options(
                options, value=baseline.value if baseline.value in options else next(iter(options), None)
            )

        view.listen(
            view.feed("evaluations", lambda client: client.evaluations.list(limit=100), every_s=10.0), changed
        )

        async def ask() -> None:
            if not baseline.value:
                ui.notify("There is no other finished evaluation.", type="warning")
                return
            request = GateRequest(baseline=str(baseline.value))
            reply = await view.attempt(lambda client: client.evaluations.gate(found.id, request))
            if reply is not None and not box.is_deleted:
                box.clear()
                with box:
                    _gated(reply)

        button.on_click(ask)


def _gated(reply: GateReply) -> None:
    words, tone = {
        "no_fall": ("It has not fallen.", "good"),
        "fell": ("It has fallen.", "bad"),
        "cannot_tell": ("These items cannot tell.", "warn"),
    }[reply.verdict]
    ui.label(words).classes(f"notice {tone}")
    picture(
        [
            Estimate(
                suite.suite,
                suite.difference,
                suite.low,
                suite.high,
                f"{points(suite.difference)} [{points(suite.low)}, {points(suite.high)}] · "
                f"{len(suite.wins):,} won, {len(suite.losses):,} lost",
                {"fell": "bad", "no_fall": "good"}.get(suite.verdict, "open"),
            )
            for suite in reply.suites
        ],
        tick=points,
        label="Difference to the earlier evaluation in points, with 95% intervals",
        zero=True,
    )
    for suite in reply.suites:
        ui.label(answers.visible(f"{suite.suite}: {suite.reason}")).classes("small wrap")


class Items:
    """Answers page by page, those of one outcome or one suite; the address keeps both."""

    def __init__(self, view: View, found: Evaluation, query: Mapping[str, str]) -> None:
        self.view, self.found = view, found
        self.status = query.get("status", "") if query.get("status", "") in STATUSES else ""
        suites = [suite.suite for suite in found.suites]
        self.suite = query.get("suite", "") if query.get("suite", "") in suites else ""
        self.cursors: list[str | None] = [None]
        self.last: str | None = None

    def draw(self) -> None:
        """Filters and answers."""
        with ui.element("section").classes("card"):
            heading("Answer by answer")
            with ui.element("div").classes("fields"):
                status = ui.select(STATUSES, label="Outcome", value=self.status).props("outlined dense")
                status.on_value_change(lambda event: self._set(status=str(event.value or "")))
                suites = {"": "all", **{suite.suite: suite.suite for suite in self.found.suites}}
                suite = ui.select(suites, label="Suite", value=self.suite).props("outlined dense")
                suite.on_value_change(lambda event: self._set(suite=str(event.value or "")))
            self.box = ui.element("div").classes("live")
            with self.box:
                states.loading()
            with ui.row().classes("items-center"):
                self.back = ui.button("Previous", icon="chevron_left", on_click=lambda: self._turn(-1)).props(
                    "flat"
                )
                self.where = ui.label("").classes("num").props('role="status"')
                self.next = ui.button("Next", icon="chevron_right", on_click=lambda: self._turn(1)).props(
                    "flat"
                )
        self.view.later(self._fetch())

    def _set(self, *, status: str | None = None, suite: str | None = None) -> None:
        self.status = self.status if status is None else status
        self.suite = self.suite if suite is None else suite
        self.cursors = [None]
        said = {name: value for name, value in (("status", self.status), ("suite", self.suite)) if value}
        ui.navigate.history.replace(f"/evaluations/{self.found.id}" + (f"?{urlencode(said)}" if said else ""))
        self.view.later(self._fetch())

    def _turn(self, by: int) -> None:
        if by < 0 and len(self.cursors) > 1:
            self.cursors.pop()
        elif by > 0 and self.last is not None:
            self.cursors.append(self.last)
        self.view.later(self._fetch())

    async def _fetch(self) -> None:
        after, status, suite = self.cursors[-1], self.status or None, self.suite or None
        page = await self.view.attempt(
            lambda client: client.evaluations.items_page(
                self.found.id, status=status, suite=suite, after=after, limit=PER_PAGE
            )
        )
        if page is None or self.box.is_deleted:
            return
        self.last = page.last_id if page.has_more else None
        self.box.clear()
        with self.box:
            if not page.data:
                states.empty("No answer of this kind.")
            for item in page.data:
                _item(item)
        first = PER_PAGE * (len(self.cursors) - 1) + 1
        self.where.set_text(f"{first:,}–{first + len(page.data) - 1:,}" if page.data else "")
        self.back.set_enabled(len(self.cursors) > 1)
        self.next.set_enabled(page.has_more)


def _item(item: ItemResult) -> None:
    mark = "✓ right" if item.correct else f"✗ {item.status.replace('_', ' ')}"
    with ui.expansion(answers.visible(f"{mark} · {item.question[:160]}")).classes("w-full").props("dense"):
        ui.label(answers.visible(item.question)).classes("wrap pre")
        runs = (
            word_diff(item.reference, item.extracted or item.output)
            if not item.correct and item.reference
            else []
        )
        if runs:
            answers.differences(runs)
        else:
            answers.answer(item.output or "(nothing)")
        if item.reference:
            ui.label("Reference").classes("soft small")
            answers.answer(item.reference)
        ui.label(answers.visible(item.reason)).classes("small wrap")
        ui.label(
            f"{item.latency_s:.2f} s · {item.prompt_tokens:,} tokens read, {item.completion_tokens:,} written"
        ).classes("soft small num")
        answers.sources(item.sources, item.output)
