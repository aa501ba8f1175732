"""`mt eval`: look at evaluations, hold one against a baseline, and load an endpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from model_training.cli.console import out, print_json, print_table, when_short
from model_training.cli.group import Group
from model_training.cli.session import connect
from model_training.client.client import Client
from model_training.contracts.evaluations import Evaluation
from model_training.contracts.evaluations_gate import BaselineItem, GateReply, GateRequest
from model_training.contracts.jobs import JobState
from model_training.errors import UserError

FELL, CANNOT_TELL = 1, 3
PREVIOUS = "previous"
_SHOWN = 10
_WORDS = {
    "fell": "[bold red]fell[/]",
    "no_fall": "[green]no fall[/]",
    "cannot_tell": "[yellow]cannot tell[/]",
}

app = typer.Typer(
    cls=Group, no_args_is_help=True, help="Look at evaluations, and compare one with a baseline."
)


@app.command("list")
def list_evaluations(
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List evaluations, newest first."""
    with connect() as client:
        found = client.evaluations.list(limit=limit).data
    if as_json:
        print_json(found)
        return
    rows = ((one.id, when_short(one.created_at), one.state.value, one.model) for one in found)
    print_table(("id", "created", "state", "model"), rows, "No evaluation yet; `mt evaluate` makes one.")


@app.command("gate")
def gate(
    evaluation: Annotated[str, typer.Argument(help="The evaluation to judge, eval_…")],
    baseline: Annotated[
        str, typer.Option("--baseline", "-b", help="eval_…, `previous`, a model's name, or a file of items.")
    ],
    largest_fall: Annotated[float, typer.Option(min=0, max=1, help="A fall that would not matter.")] = 0.02,
    alpha: Annotated[float, typer.Option(help="How often the gate may close by chance.")] = 0.05,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with 3 where the items are too few to tell.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compare item by item. Exit code 0: passed; 1: it fell; 3, with --strict: too few items to tell."""
    with connect() as client:
        request = _request(client, evaluation, baseline)
        request = request.model_copy(update={"largest_fall": largest_fall, "alpha": alpha})
        reply = client.evaluations.gate(evaluation, request)
    if as_json:
        print_json(reply)
    else:
        _show(reply)
    if not reply.passed:
        raise typer.Exit(FELL)
    if strict and reply.verdict == "cannot_tell":
        raise typer.Exit(CANNOT_TELL)


PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command("load", context_settings=PASSED_ON)
def load(context: typer.Context) -> None:
    """Load an OpenAI-compatible endpoint: `mt eval load URL --model NAME --rate 5`; --help lists the options."""
    _run_module("services.evaluator.load", context.args)


@app.command("judge", context_settings=PASSED_ON)
def judge(context: typer.Context) -> None:
    """Let a model judge two evaluations' answers in both orders: `mt eval judge A.jsonl B.jsonl --url … --model …`."""
    _run_module("services.evaluator.judge", context.args)


def _run_module(name: str, arguments: list[str]) -> None:
    run = subprocess.run([sys.executable, "-m", name, *arguments], check=False)
    if run.returncode != 0:
        raise typer.Exit(run.returncode)


def _request(client: Client, evaluation: str, baseline: str) -> GateRequest:
    if baseline.startswith("eval_"):
        return GateRequest(baseline=baseline)
    path = Path(baseline).expanduser()
    if path.is_file():
        return GateRequest(items=_items(path))
    return GateRequest(baseline=_earlier(client, evaluation, baseline).id)


def _items(path: Path) -> list[BaselineItem]:
    """The items of a file that `mt evaluate` wrote. Raises UserError that names the row."""
    items: list[BaselineItem] = []
    fields = BaselineItem.model_fields
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            items.append(BaselineItem.model_validate({name: row[name] for name in fields if name in row}))
        except (ValueError, TypeError, ValidationError) as error:
            raise UserError(
                f"{path}, row {number}: this is no item of an evaluation ({type(error).__name__}).",
                hint="Take the items.jsonl that `mt evaluate` writes.",
            ) from error
    return items


def _earlier(client: Client, evaluation: str, name: str) -> Evaluation:
    """The newest finished evaluation before this one: any for `previous`, else one of the model of that name."""
    judged = client.evaluations.get(evaluation)
    after: str | None = None
    while True:
        page = client.evaluations.list(after=after, limit=100)
        for one in page.data:
            is_earlier = one.id != judged.id and one.created_at <= judged.created_at
            if one.state == JobState.SUCCEEDED and is_earlier and name in (PREVIOUS, one.model):
                return one
        if not page.has_more:
            break
        after = page.last_id
    raise UserError(
        f"--baseline {name!r}: there is no such file, and no finished evaluation before {evaluation} "
        + ("at all." if name == PREVIOUS else "of a model of that name."),
        hint="`mt eval list` shows those that there are.",
    )


def _show(reply: GateReply) -> None:
    print_table(
        (
            "suite",
            "items",
            "before",
            "now",
            "change",
            "95% interval",
            "p",
            "won",
            "lost",
            "visible from",
        ),
        (
            (
                s.suite,
                s.n,
                f"{s.baseline_rate:.1%}",
                f"{s.rate:.1%}",
                f"{s.difference:+.1%}",
                f"{s.low:+.1%} to {s.high:+.1%}",
                f"{s.p:.2g}",
                len(s.wins),
                len(s.losses),
                f"{s.smallest_visible:.1%}",
            )
            for s in reply.suites
        ),
        "",
    )
    for suite in reply.suites:
        out.print(f"{suite.suite}: {_WORDS[suite.verdict]}: {suite.reason}.", soft_wrap=True)
        for word, ids in (("lost", suite.losses), ("won", suite.wins)):
            more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
            if ids:
                out.print(f"  {word}: {', '.join(ids[:_SHOWN])}{more}", soft_wrap=True, markup=False)
        if suite.only_new or suite.only_baseline:
            out.print(
                f"  left out: {suite.only_new} new items, {suite.only_baseline} that only the baseline has"
            )
    out.print("[green]The gate is open.[/]" if reply.passed else "[bold red]The gate is closed.[/]")
