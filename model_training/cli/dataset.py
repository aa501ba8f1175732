"""`mt dataset`: build a data set from installed packages, and check files before they are uploaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from model_training.cli.console import err, out, print_json
from model_training.cli.dataset_report import show_report
from model_training.cli.group import Group
from model_training.contracts.files import FilePurpose
from model_training.datasets.checks.batch import KEPT
from model_training.datasets.checks.run import CheckOptions, DatasetFiles, check_dataset, total_bytes
from model_training.datasets.checks.tokens import TokenizerFile
from model_training.datasets.package.build import build_from_packages
from model_training.datasets.package.records import Options
from model_training.datasets.package.report import SIZE_HEAD, YIELD_HEAD, DatasetReport, size_rows, yield_rows
from model_training.datasets.sources import DataSource, read_sources, write_rows
from model_training.datasets.validation import files_of
from model_training.errors import UserError

BIG = 16_000_000
"""Bytes from which on files are checked by several processes, behind a bar."""

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
    paths: Annotated[
        list[Path], typer.Argument(help="Files, or folders of files: JSONL, JSON, CSV, Parquet.")
    ],
    purpose: Annotated[FilePurpose, typer.Option(help="What the files are for.")] = FilePurpose.FINE_TUNE,
    validation: Annotated[
        list[Path] | None, typer.Option(help="Validation rows: checked, and looked for in the training rows.")
    ] = None,
    evaluation: Annotated[
        list[Path] | None, typer.Option(help="Evaluation items: checked, and looked for everywhere else.")
    ] = None,
    chunks: Annotated[list[Path] | None, typer.Option(help="Passages of the retrieval index.")] = None,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Find rows that hardly differ.")
    ] = False,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A model's folder or tokenizer.json: report lengths in tokens.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens of a row at most.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 chooses by size.")] = 0,
    show: Annotated[int, typer.Option(min=0, max=KEPT, help="Findings of each check that are shown.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Check data before it is uploaded: rows, duplicates, conflicts, secrets, leaks. Ends with 1 if there are errors."""
    if max_length is not None and tokenizer is None:
        raise UserError("--max-length counts tokens.", hint="Name the model's folder with --tokenizer.")
    given = files_of(paths, purpose)
    files = DatasetFiles(
        training=given.training,
        validation=validation or (),
        evaluation=[*given.evaluation, *(evaluation or ())],
        chunks=[*given.chunks, *(chunks or ())],
    )
    size = total_bytes(files)
    options = CheckOptions(
        near_duplicates=near_duplicates,
        counter=TokenizerFile.find(tokenizer) if tokenizer else None,
        max_length=max_length,
        workers=workers or (os.cpu_count() or 1 if size > BIG else 1),
    )
    with _byte_bars(hidden=size <= BIG) as bars:
        report = check_dataset(files, options, _Follower(bars))
    if as_json:
        print_json(report)
    else:
        show_report(report, out, show)
    if report.errors:
        raise typer.Exit(1)


@app.command("combine")
def combine(
    sources: Annotated[
        list[str], typer.Argument(help="PATH or PATH=WEIGHT; 2 uses every row twice, 0.5 half of them.")
    ],
    file: Annotated[Path, typer.Option("--out", "-o", help="The JSONL file to write; it is replaced.")],
    seed: Annotated[int, typer.Option(help="Another seed takes other rows of a broken weight.")] = 0,
) -> None:
    """Write training rows of several files and folders, of any format and shape, into one file to upload."""
    count = write_rows(file, read_sources([DataSource.parse(text) for text in sources], seed))
    out.print(f"{file}: {count:,} rows. Check it with `mt dataset check {file}`.", soft_wrap=True)


def _byte_bars(*, hidden: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err,
        disable=hidden,
    )


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
