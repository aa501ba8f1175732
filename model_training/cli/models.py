"""`mt models`: what can answer, and which of them is the champion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_training.cli.console import out, print_json, print_table, when_short
from model_training.cli.prepare import prepare
from model_training.client.client import Client
from model_training.contracts.models import AdapterAction

app = typer.Typer(help="Prepare, list and show models, bring in adapters.", no_args_is_help=True)
app.command()(prepare)

ModelId = Annotated[str, typer.Argument(help="A base's name, or a tuned model's id.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why, for whoever reads the history.")]
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
        ("model", "base", "state", "created"),
        ((m.id, m.root or "-", ", ".join([m.state, *m.aliases]), when_short(m.created)) for m in models),
        "There are no models.",
    )


@app.command()
def show(model_id: ModelId) -> None:
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


@app.command()
def promote(model_id: ModelId, reason: Reason = "") -> None:
    """Let `champion` point at a model; whoever asks `champion` is answered by it from now on."""
    with Client() as client:
        alias = client.models.promote(model_id, reason=reason)
    out.print(f"{alias.alias} is {alias.model} (version {alias.version})")
    out.print("Back again: mt models rollback")


@app.command()
def rollback(reason: Reason = "") -> None:
    """Let `champion` point where it did before its last promotion."""
    with Client() as client:
        alias = client.models.rollback(reason=reason)
    out.print(f"{alias.alias} is {alias.model} again (version {alias.version})")


@app.command()
def history(as_json: AsJson = False) -> None:
    """List where `champion` pointed, newest first."""
    with Client() as client:
        moves = client.models.champion_history().data
    if as_json:
        print_json(moves)
        return
    print_table(
        ("model", "version", "since", "reason"),
        ((move.model, move.version, when_short(move.created_at), move.reason or "-") for move in moves),
        "No model was ever promoted; `mt models promote` does.",
    )


@app.command()
def delete(model_id: ModelId) -> None:
    """Forget a tuned model; refused while it is the champion or a job needs it."""
    with Client() as client:
        client.models.delete(model_id)
    out.print(f"{model_id} deleted")


@app.command("adapters")
def list_adapters(as_json: AsJson = False) -> None:
    """List tuned models as inference sees them: in memory, pinned, refused and why."""
    with Client() as client:
        found = client.models.adapters().data
    if as_json:
        print_json(found)
        return
    print_table(
        ("model", "base", "state", "in memory", "why refused"),
        (
            (one.id, one.base, one.state, "pinned" if one.pinned else "yes" if one.loaded else "no",
             (one.gate or {}).get("reason") or "")
            for one in found
        ),
        "There are no tuned models.",
    )  # fmt: skip


@app.command("pin")
def pin(model_id: ModelId) -> None:
    """Keep a tuned model in memory, also after a restart."""
    _act(model_id, "pin")


@app.command("unpin")
def unpin(model_id: ModelId) -> None:
    """Let a tuned model go when its place is needed."""
    _act(model_id, "unpin")


@app.command("load")
def load(model_id: ModelId) -> None:
    """Load a tuned model and hold it to its fingerprint, so that the first who asks does not wait."""
    _act(model_id, "load")


@app.command("unload")
def unload(model_id: ModelId) -> None:
    """Take a tuned model out of memory."""
    _act(model_id, "unload")


def _act(model_id: str, action: AdapterAction) -> None:
    with Client() as client:
        adapter = client.models.act(model_id, action)
    out.print(
        f"{adapter.id} is {'pinned' if adapter.pinned else 'in memory' if adapter.loaded else 'not in memory'}"
    )
