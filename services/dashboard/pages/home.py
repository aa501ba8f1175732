"""What goes on: jobs, champion, last verdict, alerts, and where to start."""

from __future__ import annotations

from model_training.contracts.base import Page
from model_training.contracts.jobs import Job
from services.dashboard.app import Dashboard, View
from services.dashboard.parts import show, states


def register(dashboard: Dashboard) -> None:
    """`/`."""

    @dashboard.page("/", title="Home")
    def home(view: View) -> None:
        view.live("jobs", lambda client: client.jobs.list(limit=20), _jobs)


def _jobs(page: Page[Job]) -> None:
    if not page.data:
        states.empty("Nothing has run yet.")
        return
    show.table(
        ["Job", "Kind", "State"],
        [[show.link(job.id, f"/jobs/{job.id}"), job.kind.value, show.pill(job.state)] for job in page.data],
    )
