"""Quality over time: evaluations by model, and whether what answers behind a name still answers as it did."""

from __future__ import annotations

from functools import partial

from nicegui import ui

from model_training.contracts.base import Page
from model_training.contracts.evaluations import Evaluation
from model_training.contracts.jobs import JobState
from model_training.contracts.monitoring import CanaryRound, History
from services.dashboard.app import View
from services.dashboard.layout import heading
from services.dashboard.pages import monitoring_drift
from services.dashboard.parts import answers, history, show, states
from services.dashboard.views.quality import rates_over_time
from services.dashboard.views.spans import curves, start_of

DISTANCE = "mt_canary_distance_nats"
LIMIT_NATS = 0.02


def draw(view: View, span: str) -> None:
    """Evaluations, canaries, drift of live answers."""
    with ui.element("section").classes("card"):
        heading("Right answers over time")
        view.live("evaluations", lambda client: client.evaluations.list(limit=100), _rates, every_s=10.0)
    with ui.element("section").classes("card"):
        heading("Canaries: does the same model still answer?")
        ui.label(
            f"Six questions go to each model every hour; more than {LIMIT_NATS} nats a token from the accepted answers "
            "means that "
            "something else answers."
        ).classes("soft small")
        view.live(
            "canaries", lambda client: client.monitoring.canaries(), partial(_canaries, view), every_s=15.0
        )
        view.live(
            f"history/{DISTANCE}/{span}",
            lambda client: client.monitoring.history(DISTANCE, start=start_of(span)),
            _distance,
            every_s=60.0,
        )
    monitoring_drift.draw(view, span)


def _rates(page: Page[Evaluation]) -> None:
    done = [one for one in page.data if one.state is JobState.SUCCEEDED and one.suites]
    if not done:
        states.empty(
            "Nothing has been evaluated yet.",
            "Every evaluation of a model becomes a point here.",
            icon="insights",
        )
        return
    history.chart(
        rates_over_time(done),
        unit="% right",
        label="Share of right answers of each model and suite over time",
        low=0,
    )
    ui.link("All evaluations", "/evaluations")


def _canaries(view: View, page: Page[CanaryRound]) -> None:
    if not page.data:
        ui.label("No round yet: the first comes within the hour after a model is in memory.").classes("soft")
        return

    def accept(found: CanaryRound) -> ui.button:
        async def ask() -> None:
            await view.attempt(
                lambda client: client.monitoring.accept_canary(found.model),
                done=f"What answers as {found.model} now is accepted.",
                refresh=("canaries", "alerts*"),
            )

        return ui.button("Accept", on_click=ask).props("flat dense")

    def state(found: CanaryRound) -> None:
        show.pill("changed" if found.changed else "as accepted", "bad" if found.changed else "good")()

    show.table(
        ["Model", "State", "Distance", "Asked", ""],
        [
            [
                found.model,
                partial(state, found),
                "–" if found.distance_nats is None else f"{found.distance_nats:.3g} nats a token",
                show.moment(found.asked_at),
                partial(accept, found) if found.changed else None,
            ]
            for found in page.data
        ],
        numbers=(2,),
        label="Canary rounds",
    )
    for found in page.data:
        if found.answers:
            with ui.expansion(answers.visible(f"Answers of {found.model}")).classes("w-full").props("dense"):
                for text in found.answers:
                    answers.answer(text)


def _distance(found: History) -> None:
    lines = curves(found)
    if lines:
        history.chart(lines, unit="nats a token", label="Distance of canary answers over time", low=0)
