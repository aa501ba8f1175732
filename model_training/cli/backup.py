"""`mt backup` and `mt restore`: the whole platform in one file."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_training.cli.console import err, out, size
from model_training.cli.platform import HomeOption
from model_training.errors import UserError
from model_training.home import Home, default_home

if TYPE_CHECKING:
    from model_training.operations.backup import Summary


def backup(
    target: Annotated[
        Path | None,
        typer.Argument(help="The file, or - for standard output; mt-backup-<time>.tar by default."),
    ] = None,
    home: HomeOption = None,
    without_secrets: Annotated[
        bool,
        typer.Option("--without-secrets", help="Leave keys and secrets out; old API keys end with them."),
    ] = False,
    without_artifacts: Annotated[
        bool,
        typer.Option("--without-artifacts", help="Leave models and reports out; for a bucket with versions."),
    ] = False,
) -> None:
    """Write database, files, models, indexes and settings into one file, while the platform runs."""
    from model_training.operations.backup import STANDARD, backup, write_to
    from model_training.operations.place import opened

    path = target or Path(f"mt-backup-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar")
    taken = {"secrets": not without_secrets, "artifacts": not without_artifacts}
    with opened(home) as place:
        stream = path == STANDARD
        made = (
            write_to(place, sys.stdout.buffer, **taken) if stream else backup(place, path.absolute(), **taken)
        )
    (err if stream else out).print(f"{path}: {_in_words(made)}", soft_wrap=True)
    _say_missing(made)
    if made.has_secrets:
        err.print("It holds the platform's secrets: keep it where only you can read it, or encrypt it.")


def restore(
    source: Annotated[Path, typer.Argument(help="A file of `mt backup`, or - for standard input.")],
    home: HomeOption = None,
) -> None:
    """Put a backup back into an empty data directory or database. Everything is checked before anything is written."""
    from model_training.operations.backup import STANDARD
    from model_training.operations.place import is_deployment, opened
    from model_training.operations.restore import put_secrets, restore, unpacked

    source = source if source == STANDARD else source.absolute()
    where = Home((home or default_home()).expanduser().absolute())
    _refuse_running(where)
    with unpacked(source, where) as (directory, manifest):
        if not is_deployment() and not (where.postgres / "data").exists():
            put_secrets(directory, where)
        with opened(home) as place:
            done = restore(place, source, directory, manifest)
    out.print(f"Restored {_in_words(done)}", soft_wrap=True)
    _say_missing(done)
    if is_deployment():
        err.print("API keys go on working with the secrets of the deployment that was backed up.")
        return
    if not done.has_secrets:
        err.print("The backup holds no secrets: make new API keys with `mt keys create`.")
    out.print("`mt up` starts it; jobs that ran go on from where they were backed up.")


def _refuse_running(where: Home) -> None:
    from model_training.operations.place import is_deployment

    if is_deployment():
        return  # a deployment: whether its services are stopped cannot be seen from here; an empty database is wanted
    from model_training.embedded.state import current

    if current(where) is not None:
        raise UserError(f"The platform of {where.root} runs.", hint="`mt down` first, or name a new --home.")


def _in_words(made: Summary) -> str:
    written = f"{size(made.bytes)}, " if made.bytes else ""  # of a stream nobody has counted
    return (
        f"{sum(made.tables.values())} rows of {len(made.tables)} tables, {made.files} files, {made.artifacts} artifacts, "
        f"{made.indexes} indexes ({written}version {made.revision}, {made.created_at})"
    )


def _say_missing(made: Summary) -> None:
    for name in made.missing:
        err.print(f"[bold yellow]Not there:[/] {name}, which a row names", soft_wrap=True)
