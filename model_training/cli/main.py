"""`mt`: every command group under one name."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import typer

from model_training.cli import (
    alerts,
    config,
    dataset,
    endpoints,
    evaluations,
    files,
    jobs,
    keys,
    models,
    monitor,
    pipelines,
    platform,
    rag,
    sweeps,
)
from model_training.cli.audit import audit
from model_training.cli.backup import backup, restore
from model_training.cli.chat import chat
from model_training.cli.compare import compare
from model_training.cli.console import out
from model_training.cli.demo import demo
from model_training.cli.deploy import deploy
from model_training.cli.doctor import doctor
from model_training.cli.evaluate import evaluate
from model_training.cli.gc import gc
from model_training.cli.group import Group
from model_training.cli.support import support
from model_training.cli.train import train

app = typer.Typer(
    name="mt",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fine-tune, retrieve, do both, or leave the model alone: measure it and get a verdict.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            out.print(version("model-training"))
        except PackageNotFoundError:
            out.print("unknown (not installed)")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options that stand before the command."""


MACHINE, WORK, LOOK = "The platform on this machine", "Work", "Look and prepare"

for command in (
    platform.up,
    platform.status,
    platform.down,
    platform.logs,
    doctor,
    backup,
    restore,
    gc,
    support,
):
    app.command(rich_help_panel=MACHINE)(command)
for command in (demo, train, evaluate, compare, deploy, chat):
    app.command(rich_help_panel=WORK)(command)
app.add_typer(evaluations.app, name="eval", rich_help_panel=WORK)
app.add_typer(dataset.app, name="dataset", rich_help_panel=LOOK)
app.add_typer(config.app, name="config", rich_help_panel=LOOK)
app.add_typer(jobs.app, name="jobs", rich_help_panel=LOOK)
app.add_typer(pipelines.app, name="pipelines", rich_help_panel=WORK)
app.add_typer(sweeps.app, name="sweeps", rich_help_panel=WORK)
app.add_typer(rag.app, name="rag", rich_help_panel=WORK)
app.add_typer(files.app, name="files", rich_help_panel=LOOK)
app.add_typer(models.app, name="models", rich_help_panel=LOOK)
app.add_typer(endpoints.app, name="endpoints", rich_help_panel=LOOK)
app.add_typer(alerts.app, name="alerts", rich_help_panel=LOOK)
app.add_typer(monitor.app, name="monitor", rich_help_panel=LOOK)
app.add_typer(keys.keys, name="keys", rich_help_panel=LOOK)
app.command(rich_help_panel=LOOK)(audit)
app.add_typer(keys.projects, name="projects", rich_help_panel=LOOK)


if __name__ == "__main__":
    app()
