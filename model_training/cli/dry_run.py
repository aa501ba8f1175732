"""`mt train --dry-run`: what a training job would do, take and be refused for, on one page."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table
from rich.text import Text

from model_training.cli.console import dollars, duration, out, print_table, size
from model_training.contracts.dry_runs import DryRun, Estimate

REFUSED = 1
"""Exit code where the job would be refused."""


def show(answer: DryRun) -> None:
    """Print a dry run."""
    out.print(f"[bold]{answer.model}[/]: a dry run, nothing was created")
    if answer.data is not None:
        data = answer.data
        out.print(
            f"{data.rows:,} rows: {data.train_rows:,} to train on, {data.validation_rows:,} to validate on; "
            f"about {data.tokens:,} tokens a pass ({data.tokens_basis})"
        )
        out.print(f"{data.steps:,} steps of {data.rows_per_step:,} rows")
    _show_estimates(answer)
    if answer.effective:
        out.print()
        print_table(
            ("setting", "asked", "applied", "why"),
            ((one.field, one.asked, one.applied, one.reason) for one in answer.effective),
            "",
        )
    for warning in answer.warnings:
        out.print(Text(f"Note: {warning}", style="yellow"))
    _show_refusals(answer)


def _show_estimates(answer: DryRun) -> None:
    shown: list[tuple[str, Estimate | None, Callable[[float], str]]] = [
        ("time", answer.time_s, duration),
        ("memory", answer.memory_bytes, size),
        ("cost", answer.cost_usd, dollars),
    ]
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column()
    for name, estimate, form in shown:
        if estimate is not None:
            between = f"{form(estimate.low)} to {form(estimate.high)}"
            table.add_row(name, form(estimate.expected), between, Text(estimate.basis, style="dim"))
    if table.row_count:
        out.print()
        out.print(table)


def _show_refusals(answer: DryRun) -> None:
    out.print()
    if answer.accepted:
        out.print("[green]The job would be accepted.[/]")
        return
    count = len(answer.refusals)
    out.print(Text(f"The job would be refused, for {count} reason{'s' if count > 1 else ''}:", style="red"))
    for refusal in answer.refusals:
        hint = f" {refusal.hint}" if refusal.hint else ""
        out.print(Text(f"  {refusal.message}").append(hint, style="cyan"))
