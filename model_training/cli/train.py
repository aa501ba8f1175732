"""`mt train`: fine-tune a model as a configuration says."""

from __future__ import annotations

from typing import Annotated

import typer

from model_training.cli.console import out, print_json
from model_training.cli.dry_run import REFUSED, show
from model_training.cli.session import connect
from model_training.config.training_config import TrainingConfig

FileOption = Annotated[
    str | None, typer.Option("--config", "-c", help="A configuration file, or a preset's name.")
]
SetOption = Annotated[list[str] | None, typer.Option("--set", "-s", help="field=value; may be repeated.")]


def train(
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", help="Training rows: a .jsonl file, or a folder with such files."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The base to tune.")] = None,
    config: FileOption = None,
    settings: SetOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing; say what the job would do and take.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The dry run, for programs.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch/--detach", help="Follow the job with its curves, or only queue it.")
    ] = True,
) -> None:
    """Fine-tune a model and follow the job. `mt config show --describe` explains every field."""
    from model_training.training_pipeline.main import main, preview, submit

    overrides = TrainingConfig.parse_settings(settings or [])
    overrides |= {k: v for k, v in {"training_file": data, "model_name": model}.items() if v is not None}
    loaded = TrainingConfig.load(config, overrides=overrides)
    if not dry_run and watch:
        main(loaded)
        return
    if not dry_run:
        with connect() as client:
            job = submit(client, loaded)
        out.print(f"{job.id} queued; `mt jobs watch {job.id}` follows it.", soft_wrap=True)
        return
    with connect() as client:
        answer = preview(client, loaded)
    print_json(answer) if as_json else show(answer)
    if not answer.accepted:
        raise typer.Exit(REFUSED)
