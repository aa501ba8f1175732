"""`mt train`: fine-tune a model as a configuration says."""

from __future__ import annotations

from typing import Annotated

import typer

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
) -> None:
    """Fine-tune a model and follow the job. `mt config show --describe` explains every field."""
    from model_training.training_pipeline.main import main

    overrides = TrainingConfig.parse_settings(settings or [])
    overrides |= {k: v for k, v in {"training_file": data, "model_name": model}.items() if v is not None}
    main(TrainingConfig.load(config, overrides=overrides))
