"""`mt evaluate`: put a model's answers to the test."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from model_training.cli.train import FileOption, SetOption
from model_training.config.evaluation_config import EvaluationConfig


def evaluate(
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="A base, a tuned id, rag:<index>@<model>, or a folder."),
    ] = None,
    suite: Annotated[list[str] | None, typer.Option(help="A suite; may be repeated.")] = None,
    items: Annotated[str | None, typer.Option(help="Evaluation items: a .jsonl file or a folder.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many items of each suite.")] = None,
    baseline: Annotated[str | None, typer.Option(help="A model or an evaluation to compare with.")] = None,
    config: FileOption = None,
    settings: SetOption = None,
) -> None:
    """Evaluate a model and follow the job."""
    from model_training.testing_service.main import main

    given: dict[str, Any] = {
        "model_path": model,
        "benchmark_suite": suite,
        "evaluation_file": items,
        "limit": limit,
        "baseline": baseline,
    }
    overrides = EvaluationConfig.parse_settings(settings or [])
    overrides |= {name: value for name, value in given.items() if value is not None}
    main(EvaluationConfig.load(config, overrides=overrides))
