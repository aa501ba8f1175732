"""Settings: every value with where it comes from, who changed it and why, the keys, and what this dashboard uses."""

from __future__ import annotations

import json
from typing import Any, get_args

from nicegui import ui

from model_training.client import Client
from model_training.contracts.base import Page
from model_training.contracts.config import ConfigSection, ConfigValue, ConfigVersion
from model_training.contracts.keys import ApiKey, NewApiKey, Scope
from model_training.errors import UserError
from services.dashboard.app import Dashboard, View
from services.dashboard.layout import heading
from services.dashboard.pages.models import ask_reason
from services.dashboard.parts import show, states

DAY_S = 86_400
LIVES = {30 * DAY_S: "30 days", 90 * DAY_S: "90 days", 365 * DAY_S: "a year", 0: "until it is revoked"}
TONES: dict[str, show.Tone] = {"runtime": "info", "environment": "warn", "file": "warn", "default": ""}

Sections = list[tuple[ConfigSection, list[ConfigVersion]]]


def register(dashboard: Dashboard) -> None:
    """`/settings`."""

    @dashboard.page("/settings", title="Settings")
    def settings(view: View) -> None:
        with ui.element("section").classes("card"):
            heading("Configuration of the platform")
            ui.label(
                "Changes hold at once for every process, and every change is kept with its reason."
            ).classes("soft")
            view.live("config", _sections, lambda found: _configuration(view, found), every_s=15)
        with ui.element("section").classes("card"):
            with ui.row().classes("items-center justify-between full"):
                heading("API keys")
                ui.button("New key", icon="key", on_click=lambda: _new_key(view)).props(
                    "unelevated dense padding='4px 12px'"
                )
            view.live("keys", lambda c: _keys_or_reason(c), lambda found: _keys(view, found), every_s=30)
        whose = (
            "your own; Log out forgets it"
            if dashboard.sessions.needs_login
            else "the platform's own, of this machine"
        )
        with ui.element("section").classes("card"):
            heading("This dashboard")
            show.facts(
                [
                    ("gateway", dashboard.gateway.url),
                    ("key", whose),
                    ("light or dark", "the button above; this browser remembers it"),
                    ("keyboard", "g, then h home, d data, t train, m models, p playground, e evaluations, c comparisons, "
                                 "r retrieval, o monitoring, s settings"),
                ]
            )  # fmt: skip


def _sections(client: Client) -> Sections:
    return [(one, client.config.history(one.section).data) for one in client.config.list().data]


def _configuration(view: View, found: Sections) -> None:
    for section, history in found:
        with ui.element("div").classes("config"):
            with ui.row().classes("items-center"):
                heading(section.section, level=3)
                ui.label(f"version {section.version}").classes("soft small num")
            rows = [_value_row(view, section, name, value) for name, value in section.values.items()]
            show.table(
                ["Name", "Value", "From", "Otherwise", "What it is", ""],
                rows,
                label=f"Settings of {section.section}",
            )
            if history:
                _history(view, section, history)


def _value_row(view: View, section: ConfigSection, name: str, value: ConfigValue) -> list[show.Cell]:
    def change() -> None:
        ui.button("Change", on_click=lambda: _change(view, section, name, value)).props(
            f'flat dense aria-label="Change {name}"'
        )

    differs = value.origin == "runtime"
    return [
        lambda: ui.label(name).classes("mono"),
        lambda: ui.label(_text(value.value)).classes("num state-title"),
        show.pill(value.origin, TONES[value.origin]),
        _text(value.inherited) if differs else "",
        value.description,
        change,
    ]


def _text(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return show.number(value, 6)
    return "none" if value is None else str(value)


def _history(view: View, section: ConfigSection, history: list[ConfigVersion]) -> None:
    with ui.expansion(f"{len(history)} changes").classes("full group"):
        rows: list[list[show.Cell]] = []
        for one in history:
            values = (
                ", ".join(f"{name} = {_text(value)}" for name, value in one.values.items())
                or "nothing is set"
            )
            rows.append(
                [
                    one.version,
                    show.moment(one.created_at),
                    one.changed_by or "",
                    one.reason,
                    values,
                    _restorer(view, section, one),
                ]
            )
        show.table(
            ["Version", "When", "Who", "Why", "Set since then", ""],
            rows,
            numbers=[0],
            label=f"Changes of {section.section}",
        )


def _restorer(view: View, section: ConfigSection, one: ConfigVersion) -> Any:
    async def restore() -> None:
        reason = await ask_reason(f"Set {section.section} as it was in version {one.version}?", "Restore")
        if reason is not None:
            await view.attempt(
                lambda c: c.config.restore(section, one.version, reason or "restored"),
                done="Restored.",
                refresh=("config",),
            )

    def draw() -> None:
        if one.version != section.version:
            ui.button("Restore", on_click=restore).props("flat dense")

    return draw


async def _change(view: View, section: ConfigSection, name: str, value: ConfigValue) -> None:
    with ui.dialog() as dialog, ui.card():
        ui.label(f"{section.section}.{name}").classes("h3 mono")
        ui.label(value.description).classes("soft")
        text = ui.input(
            "New value; empty takes it back", value="" if value.value is None else str(value.value)
        )
        text.props("outlined dense").classes("full")
        reason = ui.input("Why").props("outlined dense maxlength=1000").classes("full")
        with ui.row():
            ui.button("Change", on_click=lambda: dialog.submit(True)).props("unelevated")
            ui.button("Leave it", on_click=dialog.close).props("flat")
    if await dialog:
        new = _parsed(str(text.value or ""))
        why = str(reason.value or "").strip()
        if not why:
            view.notify_error(
                UserError("A change needs a reason.", hint="Whoever reads the history will want it.")
            )
        else:
            await view.attempt(
                lambda c: c.config.change(section, {name: new}, why), done="Changed.", refresh=("config",)
            )
    dialog.delete()


def _parsed(text: str) -> Any:
    """A number, a truth value or a text, as people write them; None for nothing."""
    stripped = text.strip()
    if not stripped:
        return None
    try:
        found = json.loads(stripped)
    except ValueError:
        return stripped
    return found if isinstance(found, int | float | bool) else stripped


def _keys_or_reason(client: Client) -> Page[ApiKey] | str:
    try:
        return client.keys.list()
    except UserError as error:
        return error.message


def _keys(view: View, found: Page[ApiKey] | str) -> None:
    if isinstance(found, str):
        ui.label(found).classes("soft wrap")
        return
    if not found.data:
        states.empty("There are no keys besides this one.", icon="key")
        return
    rows = [_key_row(view, key) for key in found.data]
    show.table(["Name", "May", "Project", "Created", "Expires", "State", ""], rows, label="API keys")


def _key_row(view: View, key: ApiKey) -> list[show.Cell]:
    def revoke() -> None:
        if key.revoked_at is None:
            button = ui.button("Revoke", on_click=lambda: _revoke(view, key)).props(
                "flat dense color=negative"
            )
            button.props["aria-label"] = f"Revoke {key.name}"

    return [
        key.name,
        ", ".join(key.scopes),
        key.project,
        show.moment(key.created_at),
        show.moment(key.expires_at) if key.expires_at else "never",
        show.pill("revoked", "bad") if key.revoked_at else show.pill("good", "good"),
        revoke,
    ]


async def _revoke(view: View, key: ApiKey) -> None:
    with ui.dialog() as dialog, ui.card():
        ui.label(f"Revoke {key.name} for good?").classes("h3 wrap")
        with ui.row():
            ui.button("Revoke", on_click=lambda: dialog.submit(True)).props("unelevated color=negative")
            ui.button("Keep it", on_click=lambda: dialog.submit(False)).props("flat")
    if await dialog:
        await view.attempt(lambda c: c.keys.revoke(key.id), done="Revoked.", refresh=("keys",))
    dialog.delete()


async def _new_key(view: View) -> None:
    with ui.dialog() as dialog, ui.card():
        heading("New key", level=3)
        name = ui.input("Name").props("outlined dense maxlength=100").classes("full")
        scopes = ui.select(list(get_args(Scope)), value=["read", "infer"], label="May", multiple=True)
        scopes.props("outlined dense use-chips").classes("full")
        life = ui.select(LIVES, value=90 * DAY_S, label="Lives").props("outlined dense").classes("full")
        with ui.row():
            ui.button("Make it", on_click=lambda: dialog.submit(True)).props("unelevated")
            ui.button("Leave it", on_click=dialog.close).props("flat")
    if await dialog:
        made = await view.attempt(
            lambda c: c.keys.create(
                str(name.value or ""), list(scopes.value), expires_in_s=int(life.value) or None
            ),
            refresh=("keys",),
        )
        if made is not None:
            _show_once(made)
    dialog.delete()


def _show_once(made: NewApiKey) -> None:
    with ui.dialog(value=True).props("persistent") as dialog, ui.card():
        heading(f"The key {made.name}", level=3)
        ui.label("It is shown this once. Keep it where you keep passwords.").classes("notice warn")
        ui.input("Key", value=made.key or "").props("outlined readonly").classes("full mono")
        ui.button("I have it", on_click=dialog.close).props("unelevated")
