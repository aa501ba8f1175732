"""Alerts: what is wrong now, seeing to it, keeping it quiet for a time, and what was told to whom."""

from __future__ import annotations

from functools import partial

from nicegui import ui

from model_training.client import Client
from model_training.contracts.alerts import Alert, Delivery, Silence
from model_training.contracts.base import Page
from services.dashboard.app import View
from services.dashboard.layout import heading
from services.dashboard.parts import answers, show, states

FEEDS = ("alerts*",)
FOR = {3600: "1 hour", 4 * 3600: "4 hours", 24 * 3600: "1 day", 7 * 24 * 3600: "1 week"}


def draw(view: View) -> None:
    """Open alerts, silences, messages."""
    heading("What is wrong now")
    view.live("alerts", lambda client: client.alerts.list(), partial(_alerts, view), every_s=5.0)
    heading("Silences")
    view.live(
        "alerts/silences", lambda client: client.alerts.silences(), partial(_silences, view), every_s=10.0
    )
    heading("What was told to whom")
    view.live(
        "alerts/deliveries", lambda client: client.alerts.deliveries(limit=20), _deliveries, every_s=10.0
    )
    heading("What was wrong before")
    view.live(
        "alerts/resolved", lambda client: client.alerts.list(state="resolved", limit=20), _past, every_s=15.0
    )


def _alerts(view: View, page: Page[Alert]) -> None:
    if not page.data:
        states.empty(
            "Nothing is wrong.",
            "Rules are looked at all the time; what fires stands here.",
            icon="check_circle",
        )
        return
    for alert in page.data:
        with ui.element("section").classes("card alert-card"):
            with ui.row().classes("items-center"):
                show.pill(alert.severity)()
                show.pill(alert.state)()
                heading(alert.rule, level=3)
                if alert.silenced_by:
                    show.pill("silenced", "")()
            ui.label(answers.visible(alert.summary)).classes("wrap")
            show.facts(
                [
                    ("Since", show.moment(alert.fired_at or alert.started_at)),
                    (
                        "About",
                        answers.visible(
                            ", ".join(f"{k} {v}" for k, v in alert.labels.items()) or "the platform"
                        ),
                    ),
                    ("What to do", alert.runbook or "no runbook"),
                    *([("Seen to by", _seen(alert))] if alert.acknowledged_at else []),
                ]
            )
            with ui.row():
                if alert.acknowledged_at is None:
                    ui.button(
                        "Acknowledge", icon="visibility", on_click=partial(_acknowledge, view, alert)
                    ).props("outline")
                if alert.silenced_by is None:
                    ui.button(
                        "Silence", icon="notifications_off", on_click=partial(_silence, view, alert)
                    ).props("flat")
                ui.button("Resolve", icon="done", on_click=partial(_resolve, view, alert)).props("flat")


def _seen(alert: Alert) -> str:
    return answers.visible(f"{alert.acknowledged_by or 'somebody'}: {alert.note or 'no note'}")


def _ask_note(title: str) -> tuple[ui.dialog, ui.input]:
    with ui.dialog() as dialog, ui.card().classes("card").style("min-width:min(92vw,420px)"):
        heading(title)
        note = ui.input("Note").props("outlined dense maxlength=1000 autofocus")
        note.on("keydown.enter", lambda: dialog.submit(True))
        with ui.row():
            ui.button("Do it", on_click=lambda: dialog.submit(True))
            ui.button("Back", on_click=lambda: dialog.submit(False)).props("flat")
    return dialog, note


async def _acknowledge(view: View, alert: Alert) -> None:
    dialog, note = _ask_note(f"Acknowledge {alert.rule}")
    if await dialog:
        text = str(note.value or "")
        await view.attempt(
            lambda client: client.alerts.acknowledge(alert.id, text), done="Acknowledged.", refresh=FEEDS
        )
    dialog.delete()


async def _resolve(view: View, alert: Alert) -> None:
    await view.attempt(lambda client: client.alerts.resolve(alert.id), done="Resolved.", refresh=FEEDS)


async def _silence(view: View, alert: Alert) -> None:
    with ui.dialog() as dialog, ui.card().classes("card").style("min-width:min(92vw,420px)"):
        heading(f"Silence {alert.rule}")
        ui.label("It is still looked at and listed; nobody is told.").classes("soft small")
        only = ui.checkbox("Only where it is about the same", value=True)
        stretch = ui.select(FOR, label="For", value=3600).props("outlined dense")
        reason = ui.input("Reason").props("outlined dense maxlength=1000")
        with ui.row():
            ui.button("Silence", on_click=lambda: dialog.submit(True))
            ui.button("Back", on_click=lambda: dialog.submit(False)).props("flat")
    if await dialog:
        match = {"rule": alert.rule, **(alert.labels if only.value else {})}
        await view.attempt(
            lambda client: client.alerts.silence(match, int(stretch.value or 3600), str(reason.value or "")),
            done="Silenced.",
            refresh=FEEDS,
        )
    dialog.delete()


def _silences(view: View, page: Page[Silence]) -> None:
    if not page.data:
        ui.label("None.").classes("soft")
        return

    def end(silence: Silence) -> ui.button:
        async def stop() -> None:
            def ask(client: Client) -> Silence:
                return client.alerts.end_silence(silence.id)

            await view.attempt(ask, done="Ended.", refresh=FEEDS)

        return ui.button("End", on_click=stop).props("flat dense")

    show.table(
        ["What", "Until", "Reason", "By", ""],
        [
            [
                answers.visible(", ".join(f"{k} {v}" for k, v in one.match.items()) or "everything"),
                show.moment(one.ends_at),
                answers.visible(one.reason or "–"),
                one.created_by or "–",
                partial(end, one),
            ]
            for one in page.data
        ],
        label="Silences",
    )


def _deliveries(page: Page[Delivery]) -> None:
    if not page.data:
        ui.label("Nothing yet.").classes("soft")
        return
    show.table(
        ["Message", "Channel", "State", "Tries", "When"],
        [
            [
                answers.visible(one.title),
                one.channel,
                show.pill(
                    one.state, "good" if one.state == "sent" else "bad" if one.state == "failed" else ""
                ),
                one.attempts,
                show.moment(one.sent_at or one.created_at),
            ]
            for one in page.data
        ],
        numbers=(3,),
        label="Messages",
    )


def _past(page: Page[Alert]) -> None:
    if not page.data:
        ui.label("Nothing yet.").classes("soft")
        return
    show.table(
        ["Rule", "What", "From", "Until"],
        [
            [
                one.rule,
                answers.visible(one.summary),
                show.moment(one.fired_at or one.started_at),
                show.moment(one.resolved_at),
            ]
            for one in page.data
        ],
        label="Alerts that are over",
    )
