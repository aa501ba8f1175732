"""The command group that turns what a person can mend into one sentence, for every command below it."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from model_training.cli.console import as_user_error, complain


class Group(TyperGroup):
    """Prints a `UserError` without a traceback and ends with its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            complaint = as_user_error(error)
            if complaint is None:
                raise
            complain(complaint)
            raise typer.Exit(complaint.exit_code) from None
