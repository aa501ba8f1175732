"""`mt audit`: who changed what. Needs a key with the scope `admin`."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from model_training.cli.console import out, print_json, print_table, when_short
from model_training.client.client import Client

PAGE = 1000
SHOWN = 40


def audit(
    actor: Annotated[str | None, typer.Option(help="Only what this key did, key_…")] = None,
    action: Annotated[
        str | None, typer.Option(help="Only this kind: api_key.created, job.changed, …")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Only what was done to this.")] = None,
    project: Annotated[str | None, typer.Option(help="Only what this project's keys did.")] = None,
    after: Annotated[str | None, typer.Option(help="Go on after this entry.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=PAGE, help="How many at most.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show who changed what, newest first."""
    with Client() as client:
        page = client.audit.list(
            after=after, limit=limit, actor=actor, action=action, target=target, project=project
        )
    if as_json:
        print_json(page)
        return
    print_table(
        ("to what", "what", "when", "who", "how"),
        (
            (
                entry.target,
                entry.action,
                when_short(entry.at),
                entry.actor_name or entry.actor,
                _short(entry.data),
            )
            for entry in page.data
        ),
        "Nothing was changed by a key yet.",
    )
    if page.has_more:
        out.print(f"More: mt audit --after {page.last_id}")


def _short(data: dict[str, Any]) -> str:
    text = ", ".join(f"{name} {_value(value)}" for name, value in data.items())
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _value(value: Any) -> str:
    if isinstance(value, list) and len(cast("list[Any]", value)) == 2:
        before, after = cast("list[Any]", value)
        return f"{before} → {after}"
    return str(value)
