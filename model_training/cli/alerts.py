"""`mt alerts`: what is wrong now, who was told, and keeping it quiet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from model_training.cli.console import duration, out, print_json, print_table, when
from model_training.cli.keys import UNITS_S
from model_training.client.client import Client
from model_training.contracts.alerts import Alert
from model_training.errors import UserError

app = typer.Typer(help="What is wrong now, who was told, and keeping it quiet.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
AlertId = Annotated[str, typer.Argument(help="An alert's id, alert_…")]
Note = Annotated[str, typer.Option("--note", help="Why, for whoever reads it later.")]


@app.command("list")
def list_alerts(
    every: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    rule: Annotated[str | None, typer.Option(help="Only this rule's.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what fires or is about to, newest first."""
    with Client() as client:
        found = client.alerts.list(rule=rule).data
        if every:
            found += client.alerts.list(rule=rule, state="resolved").data
    if as_json:
        print_json(found)
        return
    print_table(
        ("alert", "severity", "rule", "state", "for", "what"),
        ((one.id, one.severity, one.rule, _state(one), _length(one), one.summary) for one in found),
        "Nothing fires.",
    )


@app.command("show")
def show(alert_id: AlertId, as_json: AsJson = False) -> None:
    """Show an alert with its runbook."""
    with Client() as client:
        alert = client.alerts.get(alert_id)
    if as_json:
        print_json(alert)
        return
    out.print(f"[bold]{alert.id}[/] {alert.rule} · {alert.severity} · {_state(alert)}")
    out.print(alert.summary, markup=False)
    for name, value in sorted(alert.labels.items()):
        out.print(f"{name}: {value}", markup=False)
    out.print(f"since {when(alert.started_at)}; runbook: {alert.runbook}", markup=False)
    if alert.note:
        out.print(f"note: {alert.note}", markup=False)


@app.command("ack")
def acknowledge(alert_id: AlertId, note: Note = "") -> None:
    """Say that you see to it: it is not repeated and not escalated."""
    with Client() as client:
        client.alerts.acknowledge(alert_id, note)
    out.print(f"{alert_id} acknowledged")


@app.command("resolve")
def resolve(alert_id: AlertId, note: Note = "") -> None:
    """End an alert by hand; should its condition still hold, a new one begins."""
    with Client() as client:
        client.alerts.resolve(alert_id, note)
    out.print(f"{alert_id} resolved")


@app.command("silence")
def silence(
    match: Annotated[
        list[str] | None, typer.Argument(help="rule=GpuHot, severity=info, gpu=0; none: all.")
    ] = None,
    length: Annotated[str, typer.Option("--for", help="How long: 90m, 2h, 1d.")] = "1h",
    reason: Annotated[str, typer.Option(help="Why.")] = "",
) -> None:
    """Keep matching alerts quiet for a time. They are still listed."""
    pairs: dict[str, str] = {}
    for one in match or []:
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise UserError(f"{one!r} says no label and value.", hint="Write it like rule=GpuHot or gpu=0.")
        pairs[name] = value
    with Client() as client:
        made = client.alerts.silence(pairs, seconds_of(length, "--for"), reason)
    out.print(f"{made.id} until {when(made.ends_at)}")


@app.command("unsilence")
def unsilence(silence_id: Annotated[str, typer.Argument(help="A silence's id, sil_…")]) -> None:
    """End a silence now."""
    with Client() as client:
        client.alerts.end_silence(silence_id)
    out.print(f"{silence_id} ended")


@app.command("silences")
def silences(as_json: AsJson = False) -> None:
    """List silences that are not over."""
    with Client() as client:
        found = client.alerts.silences().data
    if as_json:
        print_json(found)
        return
    print_table(
        ("silence", "what", "from", "until", "reason"),
        (
            (one.id, ", ".join(f"{k}={v}" for k, v in one.match.items()) or "all", when(one.starts_at),
             when(one.ends_at), one.reason)
            for one in found
        ),
        "Nothing is silenced.",
    )  # fmt: skip


@app.command("deliveries")
def deliveries(as_json: AsJson = False) -> None:
    """List messages to channels, and what became of them."""
    with Client() as client:
        found = client.alerts.deliveries().data
    if as_json:
        print_json(found)
        return
    print_table(
        ("message", "channel", "state", "tries", "when", "title", "error"),
        (
            (one.id, one.channel, one.state, one.attempts, when(one.sent_at or one.created_at), one.title,
             one.error or "")
            for one in found
        ),
        "Nobody was told anything.",
    )  # fmt: skip


def _state(alert: Alert) -> str:
    marks = [alert.state]
    if alert.acknowledged_at and alert.state != "resolved":
        marks.append("acknowledged")
    if alert.silenced_by:
        marks.append("silenced")
    return ", ".join(marks)


def _length(alert: Alert) -> str:
    return duration(((alert.resolved_at or datetime.now(UTC)) - alert.started_at).total_seconds())


def seconds_of(text: str, option: str) -> int:
    """A length of time such as 90m, in seconds.

    Raises:
        UserError: it is none.
    """
    number, unit = text.strip()[:-1], text.strip()[-1:]
    if not number.isdigit() or unit not in UNITS_S or int(number) == 0:
        raise UserError(f"{option} {text!r} is no length of time.", hint="Write it like 90m, 2h or 1d.")
    return int(number) * UNITS_S[unit]
