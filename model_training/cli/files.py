"""`mt files`: upload, list, show and delete files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_training.cli.console import out, print_json, print_table, size, when_short
from model_training.client.client import Client
from model_training.client.errors import ApiError
from model_training.contracts.files import FilePurpose

app = typer.Typer(help="Upload, list, show and delete files.", no_args_is_help=True)

FileId = Annotated[str, typer.Argument(help="A file's id, file_…")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
SHOWN_ROWS = 10


@app.command()
def upload(
    path: Annotated[Path, typer.Argument(help="A JSON Lines file.")],
    purpose: Annotated[FilePurpose, typer.Option(help="What the file is for.")] = FilePurpose.FINE_TUNE,
    as_json: AsJson = False,
) -> None:
    """Upload a file; every row is checked on arrival."""
    with Client() as client:
        try:
            file = client.files.upload(path, purpose)
        except ApiError as error:
            for fault in error.rows[:SHOWN_ROWS]:
                field = f", {fault.field}" if fault.field else ""
                out.print(f"row {fault.row}{field}: {fault.message}", soft_wrap=True, markup=False)
            raise
        report = client.files.report(file.id)
    if as_json:
        print_json(file)
    else:
        out.print(f"{file.id}: {report.rows} rows, {size(file.bytes)}, {report.duplicates} duplicates")


@app.command("list")
def list_files(
    purpose: Annotated[FilePurpose | None, typer.Option(help="Only this purpose.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List files, newest first."""
    with Client() as client:
        files = client.files.list(purpose=purpose, limit=limit).data
    if as_json:
        print_json(files)
        return
    print_table(
        ("file", "name", "purpose", "size", "created"),
        ((f.id, f.filename, f.purpose.value, size(f.bytes), when_short(f.created_at)) for f in files),
        "There are no files.",
    )


@app.command()
def show(file_id: FileId, as_json: AsJson = False) -> None:
    """Show a file and what the check of its rows found."""
    with Client() as client:
        file, report = client.files.get(file_id), client.files.report(file_id)
    if as_json:
        print_json({"file": file.model_dump(mode="json"), "report": report.model_dump(mode="json")})
        return
    out.print(
        f"[bold]{file.id}[/] {file.filename} · {file.purpose.value} · {size(file.bytes)}", soft_wrap=True
    )
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.kinds.items())
    out.print(
        f"{report.rows} rows ({kinds or 'of no kind'}), {report.duplicates} duplicates, sha256 {file.sha256}"
    )


@app.command()
def delete(file_id: FileId) -> None:
    """Delete a file; refused while a job uses it."""
    with Client() as client:
        client.files.delete(file_id)
    out.print(f"{file_id} deleted")
