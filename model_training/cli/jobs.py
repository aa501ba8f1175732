"""`mt jobs`: list, show, watch and steer jobs of every kind."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from model_training.cli.console import duration, out, print_json, print_table, when, when_short
from model_training.cli.progress import Detached
from model_training.cli.progress import watch as watch_job
from model_training.client.client import Client
from model_training.contracts.jobs import Job, JobEvent, JobKind, JobState
from model_training.errors import UserError
from model_training.home import default_home

app = typer.Typer(help="List, show, watch and steer jobs.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="A job's id, such as ftjob_…")]
SHOWN_EVENTS = 20
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_jobs(
    kind: Annotated[JobKind | None, typer.Option(help="Only this kind.")] = None,
    state: Annotated[JobState | None, typer.Option(help="Only this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with Client() as client:
        jobs = client.jobs.list(kind=kind, state=state, limit=limit).data
    if as_json:
        print_json(jobs)
        return
    print_table(
        ("job", "kind", "state", "done", "created", "took"),
        (
            (
                j.id,
                j.kind.value,
                j.state.value,
                f"{j.progress.fraction:.0%}",
                when_short(j.created_at),
                _took(j),
            )
            for j in jobs
        ),
        "There are no jobs.",
    )


@app.command()
def show(job_id: JobId, as_json: AsJson = False) -> None:
    """Show one job with its newest events."""
    with Client() as client:
        job = client.jobs.get(job_id)
        events = list(client.jobs.all_events(job_id))
    if as_json:
        print_json(job)
        return
    out.print(f"[bold]{job.id}[/] {job.kind.value} {job.state.value} {job.progress.fraction:.0%}")
    out.print(
        f"created {when(job.created_at)} · took {_took(job)} · attempt {job.attempt} of {job.max_attempts}"
    )
    if job.error:
        hint = f" {job.error.hint}" if job.error.hint else ""
        out.print(Text(f"{job.error.code}: {job.error.message}{hint}", style="red"), soft_wrap=True)
    for event in events[-SHOWN_EVENTS:]:
        _print_event(event)
    if len(events) > SHOWN_EVENTS:
        out.print(
            Text(
                f"The newest {SHOWN_EVENTS} of {len(events)} events; all: mt jobs logs {job_id}", style="dim"
            )
        )
    if job.result:
        print_json(job.result)


@app.command()
def watch(job_id: JobId) -> None:
    """Follow a job to its end. Ctrl-C stops the watching, never the job."""
    with Client() as client:
        job = watch_job(client, job_id)
    out.print(f"{job.id} {job.state.value}")


@app.command()
def cancel(job_id: JobId) -> None:
    """End a job for good; what it has committed stays."""
    with Client() as client:
        job = client.jobs.cancel(job_id)
    out.print(f"{job.id} {job.state.value}")


@app.command()
def pause(job_id: JobId) -> None:
    """Stop a job where it can go on later."""
    with Client() as client:
        job = client.jobs.pause(job_id)
    out.print(f"{job.id} {job.state.value}")


@app.command()
def resume(job_id: JobId) -> None:
    """Let a paused job go on."""
    with Client() as client:
        job = client.jobs.resume(job_id)
    out.print(f"{job.id} {job.state.value}")


@app.command()
def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    process: Annotated[
        bool,
        typer.Option("--process", help="What the job's process printed; on the platform's machine only."),
    ] = False,
) -> None:
    """Print a job's history, every event a line. Ctrl-C stops the printing, never the job."""
    if process:
        _print_process_log(job_id)
        return
    with Client() as client:
        try:
            for event in client.jobs.watch(job_id) if follow else client.jobs.all_events(job_id):
                _print_event(event)
        except KeyboardInterrupt:
            raise Detached(job_id) from None


def _print_event(event: JobEvent) -> None:
    styles = {"info": "", "warn": "yellow", "error": "red"}
    line = Text(f"{when(event.created_at)}  ", style="dim")
    out.print(line.append(event.message, style=styles[event.level] or "not dim"), soft_wrap=True)


def _print_process_log(job_id: str) -> None:
    path = default_home() / "logs" / "jobs" / f"{job_id}.log"
    if not job_id.replace("_", "").isalnum() or not path.is_file():
        raise UserError(
            f"There is no process log of {job_id!r} in {path.parent}.",
            hint="It lies on the machine that ran the job, and a job that never ran has none.",
        )
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            out.print(Text(line.rstrip("\n")), soft_wrap=True)


def _took(job: Job) -> str:
    if job.started_at is None or job.finished_at is None:
        return "-"
    return duration((job.finished_at - job.started_at).total_seconds())
