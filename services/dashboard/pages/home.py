"""What goes on: running jobs, champion, last verdict, alerts, queue, and where to start on an empty platform."""

from __future__ import annotations

from nicegui import ui

from model_training.client import Client
from model_training.contracts.alerts import Alert
from model_training.contracts.base import Page
from model_training.contracts.comparisons import Comparison
from model_training.contracts.jobs import Job, JobState
from model_training.contracts.models import ModelAlias
from model_training.contracts.monitoring import Resources, RunningJob
from services.dashboard.app import Dashboard, View
from services.dashboard.layout import heading
from services.dashboard.parts import answers, job_parts, show, states

SHOWN_ALERTS = 4
CONFIDENCES: dict[str, show.Tone] = {"high": "good", "moderate": "warn"}
STARTS = (
    ("Learn a library", "Build a data set from an installed package, train on it, and see whether that was worth it.",
     "school", "/data/learn"),
    ("Bring your own data", "Drop a file of questions and answers; every row is checked, and you see what is wrong with it.",
     "upload_file", "/data"),
    ("Ask a model", "Put one question to the base and to whatever you have tuned, side by side.",
     "forum", "/playground"),
)  # fmt: skip
"""Title, what it does, icon and address of the ways to begin."""


def register(dashboard: Dashboard) -> None:
    """`/`."""

    @dashboard.page("/", title="Home")
    def home(view: View) -> None:
        view.live("jobs", _newest_jobs, _start_or_nothing, loading="Looking at the platform")
        with ui.element("div").classes("grid"):
            with _card("Champion"):
                view.live("champion", lambda c: c.models.champion_history(limit=1), _champion, every_s=10)
            with _card("Last verdict"):
                view.live("verdict", _last_verdict, _verdict, every_s=10)
            with _card("Alerts"):
                view.live("alerts", lambda c: c.alerts.list(limit=50), _alerts, every_s=10)
        with _card("Running now"):
            view.live("resources", lambda c: c.monitoring.resources(), _running, every_s=10)
        with _card("Recent jobs"):
            view.live("jobs", _newest_jobs, job_parts.job_table)
        with _card("Queue and machine"):
            view.live("resources", lambda c: c.monitoring.resources(), _machine, every_s=10)


def _newest_jobs(client: Client) -> Page[Job]:
    return client.jobs.list(limit=20)


def _last_verdict(client: Client) -> Comparison | None:
    """The newest comparison that has a report."""
    done = [one for one in client.comparisons.list(limit=10).data if one.state == JobState.SUCCEEDED]
    return client.comparisons.get(done[0].id) if done else None


def _card(title: str) -> ui.element:
    card = ui.element("section").classes("card")
    with card:
        heading(title)
    return card


def _start_or_nothing(page: Page[Job]) -> None:
    if page.data:
        return
    with ui.element("section").classes("card"):
        heading("Start here")
        ui.label("Nothing has run on this platform yet. Three ways to begin:").classes("soft")
        with ui.element("div").classes("grid"):
            for title, text, icon, target in STARTS:
                with ui.link(target=target).classes("start"):
                    ui.icon(icon, size="1.8rem").props('aria-hidden="true"')
                    ui.label(title).classes("state-title")
                    ui.label(text).classes("soft")


def _champion(page: Page[ModelAlias]) -> None:
    if not page.data:
        states.empty("No model is the champion yet.", "Promote one on the page Models.", icon="emoji_events")
        return
    now = page.data[0]
    show.link(now.model, f"/models/{now.model.rpartition('@')[2]}")().classes("h3")
    show.facts([("since", show.moment(now.created_at)), ("why", now.reason or "no reason was given")])


def _verdict(found: Comparison | None) -> None:
    if found is None or found.report is None:
        states.empty(
            "Nothing was compared yet.", "A comparison says which way to answer is worth it.", icon="balance"
        )
        return
    verdict = found.report.verdict
    show.pill(
        f"confidence: {verdict.confidence.replace('_', ' ')}", CONFIDENCES.get(verdict.confidence, "")
    )()
    title = f"Deploy: {verdict.recommended}" if verdict.recommended else "Cannot tell yet"
    show.link(title, f"/comparisons/{found.id}")().classes("h3")
    ui.label(verdict.reason).classes("small wrap")
    show.moment(found.created_at)().classes("soft small")


def _alerts(page: Page[Alert]) -> None:
    firing = [alert for alert in page.data if alert.state == "firing"]
    if not firing:
        with ui.row().classes("items-center no-wrap"):
            ui.icon("check_circle", size="1.4rem").classes("good-ink").props('aria-hidden="true"')
            ui.label("Nothing is wrong.")
        return
    for alert in firing[:SHOWN_ALERTS]:
        with ui.row().classes("items-center no-wrap"):
            show.pill(alert.severity)()
            ui.label(answers.visible(alert.summary)).classes("wrap small")
    show.link(f"All {len(firing)}" if len(firing) > SHOWN_ALERTS else "See and acknowledge", "/monitoring")()


def _running(resources: Resources) -> None:
    if not resources.jobs:
        ui.label("No job runs.").classes("soft")
    for job in resources.jobs:
        _running_job(job)


def _running_job(job: RunningJob) -> None:
    with ui.element("div").classes("running"):
        with ui.row().classes("items-center justify-between full-width"):
            show.link(f"{job.kind.value} {job.id}", f"/jobs/{job.id}")()
            ui.label(job_parts.ends_in(job.remaining, job.progress.eta_s)).classes("soft small")
        job_parts.bar(job.progress.fraction, f"{job.kind.value} {job.id}")
        ui.label(job.progress.message).classes("small soft wrap")
        for finding in job.findings:
            ui.label(finding.message).classes("notice warn small")


def _machine(resources: Resources) -> None:
    host = resources.host
    show.tiles(
        [
            ("waiting jobs", str(sum(queue.queued for queue in resources.queues))),
            ("running jobs", str(sum(queue.running for queue in resources.queues))),
            (f"of {host.cpu_count} cores", f"{host.cpu_percent:.0f}%"),
            (f"memory of {show.size(host.memory_total)}", show.size(host.memory_used)),
            (f"disk of {show.size(host.disk_total)}", show.size(host.disk_used)),
            *(
                (f"{gpu.name}, {show.size(gpu.memory_used)}", f"{gpu.utilization_percent:.0f}%")
                for gpu in resources.gpus
            ),
        ]
    )
    waiting = [queue for queue in resources.queues if queue.queued]
    if waiting:
        rows = [[q.kind.value, q.queued, q.running, show.duration(q.oldest_queued_s)] for q in waiting]
        show.table(["Queue", "Waiting", "Running", "First waits for"], rows, numbers=[1, 2, 3])
