"""A job that is not done yet, or failed: how far it is, why it ended, and where to see more."""

from __future__ import annotations

from nicegui import ui

from model_training.contracts.jobs import JobError, JobProgress, JobState
from services.dashboard.parts import show, states


def unfinished(job_id: str, state: JobState, progress: JobProgress, error: JobError | None) -> None:
    """What there is to say before there is a result."""
    if error is not None:
        states.error(error.message, error.hint)
        return
    with ui.element("section").classes("card"):
        with ui.row().classes("items-center"):
            show.pill(state.value)()
            ui.label(progress.message or "waiting for its turn").classes("wrap")
        share = round(100 * progress.fraction)
        with (
            ui.element("div")
            .classes("bar-track")
            .props(
                f'role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{share}" aria-label="Progress"'
            )
        ):
            ui.element("div").classes("bar-fill").style(f"width:{share}%")
        left = f", {show.duration(progress.eta_s)} left" if progress.eta_s is not None else ""
        ui.label(f"{share}%{left}").classes("soft small num")
        show.link("Follow the job", f"/jobs/{job_id}")()
