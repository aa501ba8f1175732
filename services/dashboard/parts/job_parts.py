"""What pages show of jobs: a bar, a table, when it ends, and the buttons that steer it."""

from __future__ import annotations

from nicegui import ui

from model_training.contracts.base import Page
from model_training.contracts.jobs import Job, JobKind, JobState
from model_training.contracts.monitoring import Remaining
from services.dashboard.app import View
from services.dashboard.parts import show, states

PAUSABLE = frozenset({JobState.QUEUED, JobState.RUNNING})
CANCELLABLE = PAUSABLE | {JobState.PAUSED, JobState.PAUSING, JobState.VALIDATING_FILES}
RETRIED = frozenset({JobState.FAILED, JobState.CANCELLED})
PAGES = {
    JobKind.TRAIN: "/jobs/{}",
    JobKind.EVALUATE: "/evaluations/{}",
    JobKind.COMPARE: "/comparisons/{}",
}
"""Where the result of a kind of job is shown."""


def bar(fraction: float, label: str) -> None:
    """How far something is; `fraction` runs from 0 to 1."""
    percent = round(100 * min(1.0, max(0.0, fraction)))
    track = ui.element("div").classes("bar-track").props(f'role="progressbar" aria-valuenow="{percent}"')
    track.props["aria-label"] = label
    with track:
        ui.element("div").classes("bar-fill").style(f"width: {percent}%")


def ends_in(remaining: Remaining | None, eta_s: float | None) -> str:
    """When a job ends, as a range where there is one."""
    if remaining is not None:
        return f"{show.duration(remaining.low)} to {show.duration(remaining.high)} left"
    return f"{show.duration(eta_s)} left" if eta_s else ""


def job_table(page: Page[Job]) -> None:
    """Jobs of all kinds with their states."""
    if not page.data:
        states.empty("Nothing has run yet.")
        return
    show.table(
        ["Job", "Kind", "State", "Progress", "Begun", "Took"],
        [
            [
                show.link(job.id, PAGES.get(job.kind, "/jobs/{}").format(job.id), mono=True),
                job.kind.value,
                show.pill(job.state.value),
                f"{job.progress.fraction:.0%}",
                show.moment(job.started_at or job.created_at),
                show.duration(took_s(job)),
            ]
            for job in page.data
        ],
        numbers=[3, 5],
        label="Jobs",
    )


def took_s(job: Job) -> float | None:
    """Seconds from start to end; None before the end."""
    if job.started_at is None or job.finished_at is None:
        return None
    return (job.finished_at - job.started_at).total_seconds()


def steering(view: View, job: Job) -> None:
    """Buttons to pause, resume and cancel, as far as the state allows."""
    with ui.row().classes("items-center"):
        if job.state in PAUSABLE:
            pause = ui.button("Pause", icon="pause").props("outline dense padding='4px 12px'")
            pause.on_click(lambda: view.attempt(lambda c: c.jobs.pause(job.id), done="Pausing."))
        if job.state == JobState.PAUSED:
            resume = ui.button("Resume", icon="play_arrow").props("unelevated dense padding='4px 12px'")
            resume.on_click(lambda: view.attempt(lambda c: c.jobs.resume(job.id), done="It goes on."))
        if job.kind == JobKind.PIPELINE and job.state in RETRIED:
            retry = ui.button("Repeat what failed", icon="replay").props(
                "unelevated dense padding='4px 12px'"
            )
            retry.on_click(lambda: _retry(view, job))
        if job.state in CANCELLABLE:
            cancel = ui.button("Cancel", icon="stop").props("outline dense color=negative padding='4px 12px'")
            cancel.on_click(lambda: _confirm_cancel(view, job))


async def _retry(view: View, job: Job) -> None:
    """Queue a pipeline that does what this one did not get done."""
    again = await view.attempt(lambda c: c.pipelines.retry(job.id), refresh=("jobs",))
    if again is not None:
        ui.navigate.to(f"/jobs/{again.id}")


async def _confirm_cancel(view: View, job: Job) -> None:
    with ui.dialog() as dialog, ui.card():
        ui.label(f"Cancel {job.id} for good?").classes("h3")
        ui.label("Its checkpoints stay, but it cannot be resumed. Pausing keeps it.").classes("soft")
        with ui.row():
            ui.button("Cancel the job", on_click=lambda: dialog.submit(True)).props(
                "unelevated color=negative"
            )
            ui.button("Keep it", on_click=lambda: dialog.submit(False)).props("flat")
    if await dialog:
        await view.attempt(lambda c: c.jobs.cancel(job.id), done="Cancelling.", refresh=("jobs",))
    dialog.delete()
