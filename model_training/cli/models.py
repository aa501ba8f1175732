"""`mt models`: what can answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_training.cli.console import out, print_json, print_table, when
from model_training.client.client import Client

app = typer.Typer(help="List and show models, bring in adapters.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List bases and tuned models, newest first."""
    with Client() as client:
        models = client.models.list().data
    if as_json:
        print_json(models)
        return
    print_table(
        ("model", "base", "state", "created", "made by"),
        ((m.id, m.root or "-", m.state, when(m.created), m.job_id or "-") for m in models),
        "There are no models.",
    )


@app.command()
def show(model_id: Annotated[str, typer.Argument(help="A base's name, or a tuned model's id.")]) -> None:
    """Show one model with its lineage, as JSON."""
    with Client() as client:
        print_json(client.models.get(model_id))


@app.command("import")
def import_adapter(
    directory: Annotated[Path, typer.Argument(help="Folder with adapter_model.safetensors and its config.")],
) -> None:
    """Bring in an adapter that was trained elsewhere."""
    with Client() as client:
        model = client.models.import_adapter(directory)
    out.print(f"{model.id} (base {model.root}, {model.state})")
