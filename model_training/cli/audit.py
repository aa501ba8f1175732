"""`mt audit`: who changed what. Needs a key with the scope `admin`."""

from __future__ import annotations

from typing import Annotated

import typer

from model_training.cli.console import out, print_json, print_table, when_short
from model_training.client.client import Client

PAGE = 1000


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
    """Show who changed what, newest first; `--json` has the values before and after."""
    with Client() as client:
        page = client.audit.list(
            after=after, limit=limit, actor=actor, action=action, target=target, project=project
        )
    if as_json:
        print_json(page)
        return
    print_table(
        ("to what", "what", "when", "who", "fields"),
        (
            (
                entry.target,
                entry.action,
                when_short(entry.at),
                entry.actor_name or entry.actor,
                ", ".join(entry.data),
            )
            for entry in page.data
        ),
        "Nothing was changed by a key yet.",
    )
    if page.has_more:
        out.print(f"More: mt audit --after {page.last_id}")
