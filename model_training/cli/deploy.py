"""`mt deploy`: put the arm that a comparison recommends to work."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from model_training.cli.console import out
from model_training.client.client import Client
from model_training.errors import UserError


def deploy(
    comparison: Annotated[str, typer.Option("--from", help="The comparison (cmp_…) that recommends.")],
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also where it recommends no arm: then the simplest.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Let `champion` be the arm that a comparison recommends, and say how to use and watch it."""
    with Client() as client:
        report = client.comparisons.get(comparison).report
        if report is None or report.deployment is None:
            raise UserError(
                f"{comparison} has no graded report to deploy from.",
                hint=f"mt jobs show {comparison} says where it is.",
            )
        if report.verdict.recommended is None and not anyway:
            raise UserError(
                f"{comparison} recommends no arm: {report.verdict.reason}",
                hint="--anyway deploys the simplest arm.",
            )
        plan = report.deployment
        if not dry_run:
            alias = client.models.promote(plan.model, reason=f"recommended by {comparison}")
            out.print(
                f"{alias.alias} is {escape(alias.model)} (version {alias.version}): the arm {escape(plan.arm)}."
            )
    steps = plan.steps if dry_run else plan.steps[1:]
    for step in steps:
        out.print(f"  {escape(step)}", soft_wrap=True)
    out.print(
        f"Expect {plan.latency_p50_s:.2f} s a median answer and {plan.latency_p95_s:.2f} s at the 95th percentile. Look "
        f"again {', or '.join(plan.look_again)}.",
        soft_wrap=True,
    )
    for kind, model in plan.routes.items():
        out.print(
            f"For questions of the kind {escape(kind)} ask {escape(model)}: it is better there.",
            soft_wrap=True,
        )
