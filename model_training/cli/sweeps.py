"""`mt sweeps`: try several choices of training settings, stop the losers early, and see which is best and by how much."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from pydantic import ValidationError
from rich.text import Text

from model_training.cli.console import duration, out, print_json, print_table, when, when_short
from model_training.cli.group import Group
from model_training.cli.progress import watch as watch_job
from model_training.cli.session import connect
from model_training.client.client import Client
from model_training.client.data import upload_data
from model_training.client.errors import JobFailed
from model_training.config.files import read_config_file
from model_training.contracts.files import FilePurpose
from model_training.contracts.sweeps import RunState, Sweep, SweepBest, SweepCreate, SweepTrial
from model_training.errors import UserError

app = typer.Typer(cls=Group, help="Try several training settings, and find the best.", no_args_is_help=True)

SweepId = Annotated[str, typer.Argument(help="A sweep's id, sweep_…")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Do not follow it.")]
ID_PREFIX = "file_"
EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")


@app.command()
def create(
    file: Annotated[Path, typer.Argument(help="A sweep as YAML; docs/guide/sweeps.md shows one.")],
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Upload the files that the YAML file names by path, queue the sweep and follow it."""
    values = read(file)
    with connect() as client:
        for field in ("training_file", "validation_file"):
            path = values.get(field)
            if isinstance(path, str) and not path.startswith(ID_PREFIX):
                values[field] = upload_data(client, path, FilePurpose.FINE_TUNE, field=field).id
        sweep = client.sweeps.create(SweepCreate.model_validate(values))
        if detach:
            _show(sweep, as_json)
        else:
            _follow(client, sweep.id, as_json)


def read(file: Path) -> dict[str, Any]:
    """The fields of a sweep's file.

    Raises:
        UserError: the file cannot be read, or is no sweep; the field is named.
    """
    values: dict[str, Any] = _numbers(dict(read_config_file(file).layer.values))
    try:
        SweepCreate.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{file}: {field}: {first['msg']}.", hint="docs/guide/sweeps.md shows one."
        ) from error
    return values


def _numbers(value: Any) -> Any:
    """The same value with numbers such as 1e-4, which YAML takes for texts because they have no point."""
    match value:
        case dict():
            return {name: _numbers(inner) for name, inner in cast("dict[str, Any]", value).items()}
        case list():
            return [_numbers(inner) for inner in cast("list[Any]", value)]
        case str() if EXPONENT.fullmatch(value):
            return float(value)
        case _:
            return value


@app.command("list")
def list_sweeps(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List sweeps, newest first."""
    with Client() as client:
        found = client.sweeps.list(limit=limit).data
    if as_json:
        print_json(found)
        return
    print_table(
        ("sweep", "state", "done", "best", "created"),
        (
            (
                s.id,
                s.state.value,
                f"{s.progress.fraction:.0%}",
                f"{s.best.eval_loss:.4f}" if s.best else "-",
                when_short(s.created_at),
            )
            for s in found
        ),
        "There are no sweeps.",
    )


@app.command()
def show(
    sweep_id: SweepId,
    runs: Annotated[bool, typer.Option("--runs", help="Every run with its job, and why it ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a sweep: its trials by rank, and the best with its spread over seeds."""
    with Client() as client:
        sweep = client.sweeps.get(sweep_id)
    _show(sweep, as_json)
    if runs and not as_json:
        _show_runs(sweep)


@app.command()
def watch(sweep_id: SweepId, as_json: AsJson = False) -> None:
    """Follow a sweep to its end. Ctrl-C stops the watching, never the sweep."""
    with Client() as client:
        client.sweeps.get(sweep_id)  # another kind of job is not followed
        _follow(client, sweep_id, as_json)


@app.command()
def cancel(sweep_id: SweepId) -> None:
    """End a sweep and its jobs for good; what they have committed stays."""
    with Client() as client:
        sweep = client.sweeps.cancel(sweep_id)
    out.print(f"{sweep.id} {sweep.state.value}")


def _follow(client: Client, sweep_id: str, as_json: bool) -> None:
    try:
        watch_job(client, sweep_id)
    except JobFailed:
        _show(client.sweeps.get(sweep_id), as_json)
        raise
    _show(client.sweeps.get(sweep_id), as_json)


def _show(sweep: Sweep, as_json: bool) -> None:
    if as_json:
        print_json(sweep)
        return
    out.print(f"[bold]{sweep.id}[/]", sweep.state.value, f"{sweep.progress.fraction:.0%}")
    took = (
        (sweep.finished_at - sweep.started_at).total_seconds()
        if sweep.finished_at and sweep.started_at
        else None
    )
    out.print(f"created {when(sweep.created_at)} · took {duration(took)}")
    last = len(sweep.trials) + 1
    print_table(
        ("trial", "state", "eval_loss", "seeds", "settings"),
        (
            (t.number, _state(t), _loss(t.eval_loss, t.std), t.seeds_done or "-", _settings(t.settings))
            for t in sorted(sweep.trials, key=lambda trial: (trial.rank or last, trial.number))
        ),
        "",
    )
    if sweep.best:
        _show_best(sweep.best)


def _show_best(best: SweepBest) -> None:
    seeds = f" over {len(best.losses)} seeds" if len(best.losses) > 1 else ""
    text = f"Best: trial {best.trial} ({_settings(best.settings)}), eval_loss {_loss(best.eval_loss, best.std)}{seeds}."
    out.print(Text(text, style="bold"), soft_wrap=True)
    if best.margin is not None:
        told = {
            True: "more than their spread over seeds",
            False: "not more than their spread over seeds, so the two cannot be told apart",
            None: "how much of that is chance, one seed cannot tell",
        }[best.clear]
        out.print(f"The next one is {best.margin:.4f} higher: {told}.", soft_wrap=True)
    if best.fine_tuned_model:
        out.print(f"Model: {best.fine_tuned_model} (job {best.job_id})", soft_wrap=True)


def _show_runs(sweep: Sweep) -> None:
    print_table(
        ("job", "trial", "seed", "state"),
        (
            (
                run.job_id or "-",
                trial.number,
                run.seed,
                run.state.value,
            )
            for trial in sweep.trials
            for run in trial.runs
        ),
        "",
    )
    for trial in sweep.trials:
        for run in trial.runs:
            if why := run.reason or (run.error.message if run.error else None):
                out.print(Text(f"Trial {trial.number}, seed {run.seed}: {why}"), soft_wrap=True)


def _state(trial: SweepTrial) -> str:
    if trial.state is RunState.RUNNING:
        running = [run.progress.fraction for run in trial.runs if run.state is RunState.RUNNING]
        return f"running {max(running, default=0.0):.0%}"
    return trial.state.value


def _loss(loss: float | None, std: float | None) -> str:
    if loss is None:
        return "-"
    return f"{loss:.4f}" + (f" ± {std:.4f}" if std is not None else "")


def _settings(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(settings.items()))
