"""`mt compare`: base, retrieval, tuned, both: which one?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from model_training.cli.train import FileOption, SetOption
from model_training.config.comparison_config import ComparisonConfig


def compare(
    queries: Annotated[list[str] | None, typer.Argument(help="Questions that every arm answers.")] = None,
    suite: Annotated[list[str] | None, typer.Option(help="A suite; may be repeated.")] = None,
    items: Annotated[str | None, typer.Option(help="Evaluation items: a .jsonl file or a folder.")] = None,
    chunks: Annotated[
        str | None, typer.Option(help="Passages for retrieval: a .jsonl file or a folder.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The tuned model; default the newest.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many items of each suite.")] = None,
    again: Annotated[
        str | None, typer.Option(help="Run this comparison (cmp_…) again, and say what changed.")
    ] = None,
    config: FileOption = None,
    settings: SetOption = None,
) -> None:
    """Compare ways to answer and follow the job."""
    from model_training.comparison_service.main import main, reproduce

    if again is not None:
        reproduce(
            again, ComparisonConfig.load(config, overrides=ComparisonConfig.parse_settings(settings or []))
        )
        return

    given: dict[str, Any] = {
        "test_queries": queries,
        "benchmark_suite": suite,
        "evaluation_file": items,
        "chunks_path": chunks,
        "trained_model": model,
        "limit": limit,
    }
    overrides = ComparisonConfig.parse_settings(settings or [])
    overrides |= {name: value for name, value in given.items() if value}
    main(ComparisonConfig.load(config, overrides=overrides))
