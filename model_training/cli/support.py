"""`mt support`: a bundle for whoever helps, without secrets."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from model_training.cli.console import err, out
from model_training.cli.platform import HomeOption
from model_training.errors import UserError
from model_training.home import Home, default_home


def support(
    target: Annotated[
        Path | None, typer.Argument(help="The file; mt-support-<time>.tar.gz by default.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Collect checks, versions, settings and the ends of the logs in one file, without keys, prompts or rows."""
    from model_training.operations.place import is_deployment, opened
    from model_training.operations.support import write_bundle

    where = Home((home or default_home()).expanduser().absolute())
    path = target or Path(f"mt-support-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz")
    with ExitStack() as stack:
        try:
            there = is_deployment() or (where.postgres / "data").exists()
            place = stack.enter_context(opened(home)) if there else None
        except UserError as error:
            err.print(f"Without what the database says: {error.message}", soft_wrap=True)
            place = None
        count = write_bundle(where, path.absolute(), place)
    out.print(f"{path}: {count} files. Look through it before you send it: tar tzf {path}", soft_wrap=True)
