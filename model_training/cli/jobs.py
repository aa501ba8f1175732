"""`mt jobs`: list, show, watch and steer jobs of every kind."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from model_training.cli.console import duration, out, print_json, print_table, when
from model_training.cli.progress import watch as watch_job
from model_training.client.client import Client
from model_training.contracts.jobs import Job, JobKind, JobState

app = typer.Typer(help="List, show, watch and steer jobs.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="A job's id, such as ftjob_…")]
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
        ("job", "kind", "state", "progress", "created", "took"),
        (
            (j.id, j.kind.value, j.state.value, f"{j.progress.fraction:.0%}", when(j.created_at), _took(j))
            for j in jobs
        ),
        "There are no jobs.",
    )


@app.command()
def show(job_id: JobId, as_json: AsJson = False) -> None:
    """Show one job with its newest events."""
    with Client() as client:
        job = client.jobs.get(job_id)
        events = client.jobs.events(job_id, limit=1000).data
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
    for event in events[-20:]:
        out.print(Text(f"  {when(event.created_at)} {event.message}"), soft_wrap=True)
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


def _took(job: Job) -> str:
    if job.started_at is None or job.finished_at is None:
        return "-"
    return duration((job.finished_at - job.started_at).total_seconds())
