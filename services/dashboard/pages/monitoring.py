"""Monitoring: what is wrong and who sees to it, quality over time, and what the machine does for whom."""

from __future__ import annotations

from nicegui import ui

from services.dashboard.app import Dashboard, View
from services.dashboard.layout import heading
from services.dashboard.pages import monitoring_alerts, monitoring_quality, monitoring_resources
from services.dashboard.parts import intervals
from services.dashboard.settings import DashboardSettings
from services.dashboard.views.spans import SPANS

BOARDS = {
    "mt-overview": "Overview",
    "mt-jobs": "Jobs",
    "mt-training": "Training",
    "mt-inference": "Inference",
    "mt-retrieval": "Retrieval",
    "mt-quality": "Quality",
    "mt-gpu": "GPUs",
}
TABS = {"alerts": "Alerts", "quality": "Quality", "resources": "Resources"}


def register(dashboard: Dashboard) -> None:
    """`/monitoring`."""
    intervals.install()
    grafana = DashboardSettings().grafana_url

    @dashboard.page("/monitoring", title="Monitoring")
    def monitoring(view: View, tab: str = "alerts", span: str = "3h") -> None:
        chosen = tab if tab in TABS else "alerts"
        stretch = span if span in SPANS else "3h"
        _tabs(chosen, stretch)
        if chosen == "alerts":
            monitoring_alerts.draw(view)
        elif chosen == "quality":
            monitoring_quality.draw(view, stretch)
        else:
            monitoring_resources.draw(view, stretch)
        _grafana(grafana)


def _tabs(chosen: str, span: str) -> None:
    """Links, not tabs: each has an address, and none is drawn before it is looked at."""
    with ui.row().classes("items-center").props('role="navigation" aria-label="Parts of monitoring"'):
        for name, words in TABS.items():
            link = ui.link(words, f"/monitoring?tab={name}&span={span}").classes("tab-link")
            if name == chosen:
                link.classes("current").props('aria-current="page"')


def _grafana(url: str | None) -> None:
    with ui.element("section").classes("card"):
        heading("Grafana")
        if not url:
            ui.label(
                "Seven dashboards come with the platform (deploy/grafana). "
                "Set MT_GRAFANA_URL to where yours listens, and links stand here."
            ).classes("soft small wrap")
            return
        with ui.row():
            for uid, words in BOARDS.items():
                ui.link(words, f"{url.rstrip('/')}/d/{uid}", new_tab=True).props('rel="noopener noreferrer"')
