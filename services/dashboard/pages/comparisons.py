"""Comparisons: what was compared, and one comparison from its verdict down to each item."""

from __future__ import annotations

from nicegui import ui

from model_training.contracts.base import Page
from model_training.contracts.comparisons import ArmSpec, Comparison, ComparisonCreate
from model_training.contracts.evaluations import SuiteSpec
from model_training.contracts.jobs import FINAL_STATES
from services.dashboard.app import Dashboard, View
from services.dashboard.layout import heading
from services.dashboard.pages import comparisons_items, comparisons_report, comparisons_uses
from services.dashboard.parts import choices, intervals, progress, show, states
from services.dashboard.parts.following import until

SUITES = ("code_generation", "qa_accuracy")


def register(dashboard: Dashboard) -> None:
    """`/comparisons`, `/comparisons/new`, `/comparisons/{id}`."""
    intervals.install()

    @dashboard.page("/comparisons", title="Comparisons")
    def comparisons(view: View) -> None:
        ui.button("Compare", icon="balance", on_click=lambda: ui.navigate.to("/comparisons/new")).classes(
            "self-start"
        )
        view.live("comparisons", lambda client: client.comparisons.list(limit=50), _list)

    @dashboard.page("/comparisons/new", title="Compare")
    def new(view: View) -> None:
        _form(view)

    @dashboard.page("/comparisons/{comparison_id}", title="Comparison")
    def comparison(view: View, comparison_id: str) -> None:
        query = dict(view.request.query_params)

        def draw(found: Comparison) -> None:
            ui.label(" · ".join([found.id, *(arm.name for arm in found.arms)])).classes("soft small wrap")
            if found.report is None:
                progress.unfinished(found.id, found.state, found.progress, found.error)
                return
            comparisons_report.draw(view, found.report)
            if any(arm.n for arm in found.report.arms):
                comparisons_uses.draw(view, found.report, query.get("use", ""))
            comparisons_report.after_uses(view, found.report)
            comparisons_items.draw(view, found.report, query)

        until(
            view,
            lambda client: client.comparisons.get(comparison_id),
            draw,
            lambda c: c.state in FINAL_STATES,
        )


def _list(page: Page[Comparison]) -> None:
    if not page.data:
        states.empty(
            "Nothing has been compared yet.",
            "Compare puts the same questions to several models, with and without passages, and says which to use.",
            icon="balance",
        )
        return
    show.table(
        ["Comparison", "Arms", "State", "Begun"],
        [
            [
                show.link(found.id, f"/comparisons/{found.id}", mono=True),
                ", ".join(arm.name for arm in found.arms),
                show.pill(found.state.value),
                show.moment(found.created_at),
            ]
            for found in page.data
        ],
        label="Comparisons",
    )
    if page.has_more:
        ui.label("The newest fifty are shown; `mt jobs list --kind compare` lists all.").classes("soft small")


def _form(view: View) -> None:
    """Which models, with and without an index, on which file."""
    with ui.element("section").classes("card"):
        heading("What to compare")
        with ui.element("div").classes("fields"):
            arms = choices.arms(view, label="Arms (models, with and without passages)")
            file = choices.evaluation_file(view)
            limit = ui.number("Items of each suite", value=50, min=1, max=100_000, precision=0).props(
                'suffix="items"'
            )
        ui.label(
            "Each arm answers the same items. Code is executed in the sandbox, text is compared with its reference."
        ).classes("soft small")

        async def start() -> None:
            if not arms.value or not file.value:
                ui.notify("Choose arms and a file with evaluation items.", type="warning")
                return
            suites = await view.attempt(lambda client: choices.suites_of(client, str(file.value)))
            if suites is None:
                return
            count = int(limit.value) if limit.value else None
            request = ComparisonCreate(
                arms=[ArmSpec(name=choices.arm_name(model), model=model) for model in arms.value],
                suites=[SuiteSpec(name=name, file=str(file.value), limit=count) for name in suites or SUITES],
            )
            made = await view.attempt(
                lambda client: client.comparisons.create(request), refresh=("comparisons", "jobs*")
            )
            if made is not None:
                ui.navigate.to(f"/comparisons/{made.id}")

        ui.button("Compare", icon="balance", on_click=start).classes("self-start")
