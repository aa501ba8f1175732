"""`mt gc`: take away what nothing needs any more."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from model_training.cli.console import out, print_json, print_table, size
from model_training.cli.platform import HomeOption

if TYPE_CHECKING:
    from model_training.operations.gc import Cleaned

WHAT = {
    "artifacts": "adapters and reports that no model, alias, job or comparison leads to",
    "files": "uploads that are listed no more, or were broken off",
    "workdirs": "work directories of ended jobs, with their checkpoints",
    "indexes": "indexes that were deleted or never finished",
    "snapshots": "snapshots of indexes that are gone",
    "logs": "logs of ended jobs",
}
SHOWN = 5


def gc(
    home: HomeOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    fresh: Annotated[float, typer.Option(help="Days: what is younger stays in any case.")] = 1.0,
    checkpoints: Annotated[float, typer.Option(help="Days for which ended jobs keep theirs.")] = 7.0,
    logs: Annotated[float, typer.Option(help="Days for which ended jobs keep their logs.")] = 30.0,
    replies: Annotated[float, typer.Option(help="Days for which an Idempotency-Key is known.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Free disk space. Nothing goes that a model, an alias, a comparison or an unfinished job still needs."""
    from model_training.operations.gc import clean
    from model_training.operations.gc_rules import Retention
    from model_training.operations.place import opened

    retention = Retention(fresh=fresh, workdirs=max(fresh, checkpoints), logs=max(fresh, logs))
    with opened(home) as place:
        cleaned = clean(place, retention, keys_days=replies, dry_run=dry_run)
    if as_json:
        print_json({**asdict(cleaned), "total_bytes": cleaned.total_bytes, "dry_run": dry_run})
        return
    _show(cleaned, dry_run)


def _show(cleaned: Cleaned, dry_run: bool) -> None:
    rows = [
        (kind, len(names), size(cleaned.bytes[kind]), WHAT[kind], _some(names))
        for kind, names in asdict(cleaned.garbage).items()
        if names
    ]
    print_table(("kind", "count", "size", "what", "which"), rows, "Everything on the disk is needed.")
    if cleaned.rows:
        out.print(f"{cleaned.rows} answers kept for Idempotency-Keys")
    verb = "would be" if dry_run else "is"
    out.print(f"{size(cleaned.total_bytes)} {verb} freed.{' Nothing was touched.' if dry_run else ''}")


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(name[:18] for name in names[:SHOWN]) + more
