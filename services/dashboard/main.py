"""The dashboard: pages for people, drawn from what the gateway says. Of its own it keeps the playground's newest answers."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from nicegui import ui
from nicegui.storage import Storage
from starlette.middleware import Middleware

from libs.common.service import create_app, serve
from libs.common.telemetry import configure_logging
from services.dashboard import layout, pages
from services.dashboard.app import Dashboard
from services.dashboard.gateway import Gateway
from services.dashboard.guard import Guard
from services.dashboard.sessions import Sessions, kept_secret
from services.dashboard.settings import DashboardSettings

RECONNECT_S = 20.0
"""How long a browser that lost its connection (a phone in a tunnel) finds its page as it was; else it loads it anew."""


def build(settings: DashboardSettings) -> FastAPI:
    """The application with everything wired. One process holds one of it: NiceGUI's pages are global."""
    gateway = Gateway(settings.gateway_url)
    folder = settings.home / "dashboard"
    given = settings.dashboard_secret
    secret = given.get_secret_value() if given else kept_secret(folder)
    dashboard = Dashboard(gateway, Sessions(gateway, settings.shared_key(), secret), folder)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        dashboard.close()

    app = create_app(
        "dashboard",
        lifespan=lifespan,
        title="Model training dashboard",
        middleware=[Middleware(Guard, hosts=settings.dashboard_hosts)],
    )
    Storage.path = folder
    layout.install()
    pages.register(dashboard)
    ui.run_with(
        app,
        title="Model training",
        dark=None,
        language="en-US",
        tailwind=False,  # our own style sheet is smaller than its compiler
        binding_refresh_interval=None,
        reconnect_timeout=RECONNECT_S,
        storage_secret=secret,
        session_middleware_kwargs={"same_site": "lax", "https_only": False, "session_cookie": "mt_dashboard"},
        show_welcome_message=False,
    )
    return app


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = DashboardSettings()
    configure_logging("dashboard", settings.log_level)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # it tells of every socket that is opened
    serve(build(settings), settings.dashboard_url)


if __name__ == "__main__":
    main()
