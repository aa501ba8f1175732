"""Giving a key, where the dashboard has none of its own; the browser keeps it, sealed."""

from __future__ import annotations

from urllib.parse import urlencode

from nicegui import ui
from starlette.responses import RedirectResponse

from model_training.errors import UserError
from services.dashboard.app import Dashboard, browser_id, keep_login, sealed_login
from services.dashboard.layout import frame
from services.dashboard.parts import states
from services.dashboard.sessions import LONGEST_KEY


def register(dashboard: Dashboard) -> None:
    """`/login` and `/logout`."""

    @ui.page("/login", title="Log in · Model training")
    def login(next: str = "/") -> RedirectResponse | None:
        target = _local(next)
        if dashboard.sessions.connection(sealed_login()) is not None:
            return RedirectResponse(target)
        with frame(None, "Log in", set(), needs_login=True):
            _form(dashboard, browser_id(), target)
        return None

    @ui.page("/login/enter")
    def enter(ticket: str = "", next: str = "/") -> RedirectResponse:
        keep_login(dashboard.sessions.redeem(browser_id(), ticket))
        return RedirectResponse(_local(next))  # which leads back to the form where the ticket was no good

    @ui.page("/logout")
    def logout() -> RedirectResponse:
        keep_login(None)
        return RedirectResponse("/login")


def _form(dashboard: Dashboard, browser: str, target: str) -> None:
    with ui.column().classes("card").style("max-width: 460px"):
        ui.label(
            "Give an API key of the platform. Your browser keeps it until you log out, for 12 hours at most, sealed: "
            "only this server can read it."
        )
        key = ui.input("API key", password=True, password_toggle_button=True).classes("w-full full-width")
        key.props('autocomplete="off" autofocus outlined')
        failed = ui.column().classes("full-width")

        async def enter() -> None:
            given = str(key.value or "").strip()
            failed.clear()
            try:
                if not given.isascii() or not 0 < len(given) <= LONGEST_KEY:
                    raise UserError("This is no key.", hint="Keys begin with mt- and stand on one line.")
                await dashboard.gateway.check(given)
            except UserError as error:
                with failed:
                    states.error(error)
                return
            query = urlencode({"ticket": dashboard.sessions.ticket(browser, given), "next": target})
            ui.navigate.to(f"/login/enter?{query}")

        key.on("keydown.enter", enter)
        ui.button("Log in", on_click=enter).props("unelevated color=primary")


def _local(target: str) -> str:
    """The address, if it is one of ours; a link to another site is not followed."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"
