"""`mt dataset`: build a data set from installed packages, and check files before they are uploaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from model_training.cli.console import err, out, print_table
from model_training.cli.group import Group
from model_training.contracts.files import FilePurpose
from model_training.datasets.package.build import build_from_packages
from model_training.datasets.package.records import Options
from model_training.datasets.package.report import SIZE_HEAD, YIELD_HEAD, DatasetReport, size_rows, yield_rows
from model_training.datasets.validation import check_file

app = typer.Typer(cls=Group, help="Build and check data sets.", no_args_is_help=True)


@app.command("from-package")
def from_package(
    packages: Annotated[
        list[str], typer.Argument(help="Installed packages, by import name or distribution name.")
    ],
    directory: Annotated[
        Path, typer.Option("--out", "-o", help="Directory to write; files of the same names are replaced.")
    ],
    tasks: Annotated[int, typer.Option(min=0, help="Executable tasks at most, over all packages.")] = 120,
    qa: Annotated[int, typer.Option(min=0, help="Questions about the documentation at most.")] = 120,
    rows: Annotated[int, typer.Option(min=0, help="Training rows at most.")] = 600,
    seed: Annotated[int, typer.Option(help="Another seed holds out other examples.")] = 0,
) -> None:
    """Learn a library: training rows, passages for retrieval and evaluation items from installed packages."""
    build(packages, directory, Options(tasks=tasks, questions=qa, rows=rows, seed=seed))


def build(packages: list[str], directory: Path, options: Options) -> DatasetReport:
    """Build with a bar for each step, and print what came out."""
    with _bars() as bars:
        report = build_from_packages(packages, directory, options, _Follower(bars))
    _show(report, directory)
    return report


class _Follower:
    """One bar for each step that the build names."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        if step not in self.tasks:
            self.tasks[step] = self.bars.add_task(step, total=total)
        self.bars.update(self.tasks[step], completed=done, total=total)


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="A JSON Lines file.")],
    purpose: Annotated[FilePurpose, typer.Option(help="What the file is for.")] = FilePurpose.FINE_TUNE,
) -> None:
    """Check a file row by row, as the platform does when it is uploaded. Ends with 1 if a row is faulty."""
    report = check_file(file, purpose)
    kinds = ", ".join(f"{kind} {count}" for kind, count in report.kinds.items()) or "none"
    out.print(
        f"{file.name}: {report.rows} rows ({kinds}), {report.characters} characters, {report.duplicates} duplicates."
    )
    print_table(
        ("row", "field", "fault"),
        [(fault.row, fault.field or "-", fault.message) for fault in report.faults],
        "No faults.",
    )
    if report.fault_count > len(report.faults):
        out.print(f"{report.fault_count} faults in all; the first {len(report.faults)} are shown.")
    if report.fault_count:
        raise typer.Exit(1)


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
    )


def _show(report: DatasetReport, directory: Path) -> None:
    # Why examples were dropped takes more room than a terminal has; the report tells.
    yields = [row[:-1] for row in yield_rows(report.packages)]
    out.print(_table("What each source gave", YIELD_HEAD[:-1], yields))
    out.print(_table("What the data set holds", SIZE_HEAD, size_rows(report.packages)))
    exact = sum(1 for leak in report.leaks if leak.kind != "near")
    out.print(
        f"{report.tasks} executable tasks, {report.questions} questions, {report.rows} training rows and "
        f"{report.validation_rows} for validation, {report.chunks} passages. Exact leaks: {exact}."
    )
    out.print(
        f"{len(report.held_out)} pieces of documentation were taken out of passages; {directory / 'report.md'} lists them."
    )
    for note in report.notes:
        out.print(note, style="yellow")


def _table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in head:
        table.add_column(name, justify="left" if name in {"package", "source"} else "right")
    for row in rows:
        table.add_row(*row)
    return table


if __name__ == "__main__":
    app()
