"""`mt pipelines`: from a data set to a verdict in one command; retry what failed without repeating the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_training.cli.console import duration, out, print_json, print_table, when
from model_training.cli.group import Group
from model_training.cli.progress import watch
from model_training.cli.session import connect
from model_training.client import pipeline_file
from model_training.client.client import Client
from model_training.client.errors import JobFailed
from model_training.contracts.pipelines import Pipeline, PipelineStep

app = typer.Typer(cls=Group, help="Chain index, train, evaluate and compare.", no_args_is_help=True)

PipelineId = Annotated[str, typer.Argument(help="A pipeline's id, pipe_…")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Do not follow it.")]


@app.command()
def create(
    file: Annotated[Path, typer.Argument(help="A pipeline as YAML; `mt pipelines example` prints one.")],
    directory: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where a data set that the file asks for is built; runs/<file>."),
    ] = None,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Build and upload what the file names, queue the pipeline and follow it."""
    wanted = pipeline_file.read(file)
    where = directory or Path("runs") / file.stem
    if wanted.packages:
        from model_training.cli.dataset import build

        build(wanted.packages, where, wanted.options)
    with connect() as client:
        request = pipeline_file.with_uploads(client, wanted, where if wanted.packages else None)
        _follow(client, client.pipelines.create(request), detach, as_json)


@app.command("list")
def list_pipelines(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List pipelines, newest first."""
    with Client() as client:
        found = client.pipelines.list(limit=limit).data
    if as_json:
        print_json(found)
        return
    print_table(
        ("pipeline", "name", "state", "progress", "steps", "created"),
        (
            (p.id, p.name, p.state.value, f"{p.progress.fraction:.0%}", len(p.steps), when(p.created_at))
            for p in found
        ),
        "There are no pipelines.",
    )


@app.command()
def show(pipeline_id: PipelineId, as_json: AsJson = False) -> None:
    """Show a pipeline with its steps."""
    with Client() as client:
        _show(client.pipelines.get(pipeline_id), as_json)


@app.command()
def retry(pipeline_id: PipelineId, detach: Detach = False, as_json: AsJson = False) -> None:
    """Do what a failed or cancelled pipeline did not get done; what it had finished is reused."""
    with Client() as client:
        _follow(client, client.pipelines.retry(pipeline_id), detach, as_json)


@app.command()
def example() -> None:
    """Print a pipeline file to start from."""
    out.print(pipeline_file.example(), markup=False, soft_wrap=True)


def _follow(client: Client, pipeline: Pipeline, detach: bool, as_json: bool) -> None:
    if detach:
        _show(pipeline, as_json)
        return
    try:
        watch(client, pipeline.id)
    except JobFailed:
        _show(client.pipelines.get(pipeline.id), as_json)
        raise
    _show(client.pipelines.get(pipeline.id), as_json)


def _show(pipeline: Pipeline, as_json: bool) -> None:
    if as_json:
        print_json(pipeline)
        return
    of = f" retries {pipeline.retry_of}" if pipeline.retry_of else ""
    out.print(
        f"[bold]{pipeline.id}[/]{of}",
        pipeline.name,
        pipeline.state.value,
        f"{pipeline.progress.fraction:.0%}",
    )
    took = (
        (pipeline.finished_at - pipeline.started_at).total_seconds()
        if pipeline.finished_at and pipeline.started_at
        else None
    )
    out.print(f"created {when(pipeline.created_at)} · took {duration(took)}")
    print_table(
        ("step", "kind", "state", "progress", "job", "result"),
        (
            (s.name, s.kind.value, _state(s), f"{s.progress.fraction:.0%}", s.job_id or "-", _result(s))
            for s in pipeline.steps
        ),
        "",
    )


def _state(step: PipelineStep) -> str:
    if step.reused:
        return "reused"
    running = step.state.value == "running" and step.job_state is not None
    return step.job_state.value if running and step.job_state else step.state.value


def _result(step: PipelineStep) -> str:
    if step.error is not None:
        return step.error.message
    return ", ".join(value for field, value in (step.result or {}).items() if field != "id")
