"""Drift of live answers: is what people ask, and what models answer them, as it was when it was accepted?"""

from __future__ import annotations

from functools import partial

from nicegui import ui

from model_training.contracts.base import Page
from model_training.contracts.monitoring import DriftSignal, History, LiveDrift
from services.dashboard.app import View
from services.dashboard.layout import heading
from services.dashboard.parts import answers, history, intervals, show, states
from services.dashboard.views.spans import curves, start_of

EFFECT = "mt_live_drift_effect"
SIDES = {"input": "questions", "output": "answers"}


def draw(view: View, span: str) -> None:
    """Each sampled model's signals, and how far they lay from the accepted ones over time."""
    with ui.element("section").classes("card"):
        heading("Drift: are live questions and answers as they were accepted?")
        ui.label(
            "A share of live answers is sampled, and held in windows against a reference by length, form and score. "
            "A signal has drifted where its distance is more than chance gives for windows of this size."
        ).classes("soft small")
        view.live("drift", lambda client: client.monitoring.drift(), partial(_models, view), every_s=15.0)
        view.live(
            f"history/{EFFECT}/{span}",
            lambda client: client.monitoring.history(EFFECT, start=start_of(span)),
            _over_time,
            every_s=60.0,
        )


def _models(view: View, page: Page[LiveDrift]) -> None:
    if not page.data:
        states.empty(
            "No live answer was sampled yet.",
            "Set MT_SAMPLING_SHARE, say to 0.1: every tenth answer is measured then.",
            icon="ssid_chart",
        )
    for found in page.data:
        _model(view, found)


def _model(view: View, found: LiveDrift) -> None:
    has_drifted = any(signal.drifted for signal in found.signals)
    with ui.row().classes("items-center"):
        heading(answers.visible(found.model), level=3)
        show.pill(*_state(found, has_drifted=has_drifted))()
        if has_drifted:

            async def accept() -> None:
                await view.attempt(
                    lambda client: client.monitoring.accept_drift(found.model),
                    done=f"What is asked of {found.model} and answered now is accepted.",
                    refresh=("drift", "alerts*"),
                )

            ui.button("Accept", on_click=accept).props("flat dense")
    ui.label(answers.visible(found.words)).classes("wrap")
    with ui.row().classes("soft small"):
        ui.label(f"{found.samples:,} answers sampled")
        if found.looked_at is not None:
            ui.label("· looked at")
            show.moment(found.looked_at)()
    if found.signals:
        intervals.picture(
            [_line(signal) for signal in found.signals],
            tick=lambda value: f"{value:.2g} SD",
            label=f"Distance of each signal of {found.model} from its reference, in standard deviations",
        )
        ui.label(
            "Line: what chance alone gives. Point: this window, in standard deviations of the reference."
        ).classes("soft small")


def _state(found: LiveDrift, *, has_drifted: bool) -> tuple[str, show.Tone]:
    """Words and tone."""
    if has_drifted:
        return "drifted", "bad"
    return ("as accepted", "good") if found.signals else ("collecting", "")


def _line(signal: DriftSignal) -> intervals.Estimate:
    name = f"{signal.name.replace('_', ' ')} ({SIDES[signal.side]})"
    words = "drifted" if signal.drifted else "as accepted"
    text = f"{signal.effect:.2f} SD, p {signal.p:.2g}: {words}"
    tone = "bad" if signal.drifted else "good"
    return intervals.Estimate(answers.visible(name), signal.effect, 0.0, signal.threshold, text, tone)


def _over_time(found: History) -> None:
    lines = curves(found)
    if lines:
        history.chart(
            lines, unit="standard deviations", label="Largest distance of live signals over time", low=0
        )
