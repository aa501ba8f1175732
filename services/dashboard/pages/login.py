"""Giving a key, where the dashboard has none of its own; it stays in the dashboard's memory."""

from __future__ import annotations

from nicegui import ui
from starlette.responses import RedirectResponse

from model_training.errors import UserError
from services.dashboard.app import Dashboard, browser_id
from services.dashboard.layout import frame
from services.dashboard.parts import states


def register(dashboard: Dashboard) -> None:
    """`/login` and `/logout`."""

    @ui.page("/login", title="Log in · Model training")
    def login(next: str = "/") -> RedirectResponse | None:
        browser, target = browser_id(), _local(next)
        if dashboard.sessions.connection(browser) is not None:
            return RedirectResponse(target)
        with frame(None, "Log in", set(), needs_login=True):
            _form(dashboard, browser, target)
        return None

    @ui.page("/logout")
    def logout() -> RedirectResponse:
        dashboard.sessions.log_out(browser_id())
        return RedirectResponse("/login")


def _form(dashboard: Dashboard, browser: str, target: str) -> None:
    with ui.column().classes("card").style("max-width: 460px"):
        ui.label(
            "Give an API key of the platform. It is kept in this server's memory until you log out, for 12 hours at most."
        )
        key = ui.input("API key", password=True, password_toggle_button=True).classes("w-full full-width")
        key.props('autocomplete="off" autofocus outlined')
        failed = ui.column().classes("full-width")

        async def enter() -> None:
            given = str(key.value or "").strip()
            failed.clear()
            try:
                if not given.isascii() or not given:
                    raise UserError("This is no key.", hint="Keys begin with mt- and stand on one line.")
                await dashboard.gateway.connect(given).call(lambda client: client.models.list())
            except UserError as error:
                dashboard.sessions.drop_unused(given)
                with failed:
                    states.error(error)
                return
            dashboard.sessions.log_in(browser, given)
            ui.navigate.to(target)

        key.on("keydown.enter", enter)
        ui.button("Log in", on_click=enter).props("unelevated color=primary")


def _local(target: str) -> str:
    """The address, if it is one of ours; a link to another site is not followed."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"
