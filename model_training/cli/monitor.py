"""`mt monitor`: how a job is going, what a metric was, and whether what answers is what was accepted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from model_training.cli.alerts import seconds_of
from model_training.cli.console import duration, out, print_json, print_table, size, when, when_short
from model_training.client.client import Client

app = typer.Typer(help="How jobs go, what metrics were, and what canary questions say.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
MOST_ROWS = 30
BARS = "▁▂▃▄▅▆▇█"


@app.command("job")
def show_job(job_id: Annotated[str, typer.Argument(help="A job's id.")], as_json: AsJson = False) -> None:
    """Say how a job is going: when it ends, what is noticed, what it used."""
    with Client() as client:
        report = client.monitoring.job(job_id)
    if as_json:
        print_json(report)
        return
    out.print(report.sentence, markup=False)
    if report.queue_wait_s is not None:
        out.print(f"waited {duration(report.queue_wait_s)} for a worker")
    if used := report.usage:
        out.print(
            f"used {duration(used.cpu_s)} of processor time, {size(used.memory_peak)} of memory at most"
        )
        if used.gpu_s:
            by_tokens = used.wh_per_1000_tokens
            energy = f"{used.energy_j / 3600:.2f} Wh"
            energy += f" ({by_tokens:.3g} Wh for 1,000 tokens)" if by_tokens is not None else ""
            out.print(
                f"used {duration(used.gpu_s)} of GPU time, {size(used.gpu_memory_peak)} of its memory, {energy}"
            )


@app.command("models")
def show_models(as_json: AsJson = False) -> None:
    """Show what each model's answers used of processors, GPUs and energy, and what its training used."""
    with Client() as client:
        found = client.monitoring.models().data
    if as_json:
        print_json(found)
        return
    rows: list[tuple[str, ...]] = []
    for one in found:
        by_tokens = one.wh_per_1000_tokens
        trained = _wh(one.training.energy_j) if one.training else "-"
        rows.append(
            (one.model, f"{one.tokens:,.0f}", duration(one.cpu_s), duration(one.gpu_s), _wh(one.energy_j),
             "-" if by_tokens is None else f"{by_tokens:.3g}", trained)
        )  # fmt: skip
    headings = ("model", "tokens", "processors", "GPUs", "Wh", "Wh for 1,000 tokens", "training, Wh")
    print_table(headings, rows, "No model has answered since the monitor watches.")


def _wh(joules: float) -> str:
    return f"{joules / 3600:.3g}" if joules else "-"


@app.command("history")
def show_history(
    metric: Annotated[str, typer.Argument(help="Such as mt_host_cpu_ratio; docs/guide/metrics.md has all.")],
    match: Annotated[list[str] | None, typer.Option(help="Only series with this label: gpu=0.")] = None,
    last: Annotated[str, typer.Option(help="How far back: 90m, 12h, 30d.")] = "3h",
    as_json: AsJson = False,
) -> None:
    """Show what a metric was, as a line of bars for each series."""
    start = datetime.now(UTC) - timedelta(seconds=seconds_of(last, "--last"))
    with Client() as client:
        found = client.monitoring.history(metric, match=match, start=start)
    if as_json:
        print_json(found)
        return
    rows: list[tuple[str, ...]] = []
    for one in found.series[:MOST_ROWS]:
        means = [point.mean for point in one.points]
        labels = ", ".join(f"{name}={value}" for name, value in sorted(one.labels.items()))
        lows, highs = min(point.low for point in one.points), max(point.high for point in one.points)
        since = when_short(one.points[0].at)
        rows.append((labels or "-", since, _bars(means), f"{lows:.4g}", f"{highs:.4g}", f"{means[-1]:.4g}"))
    print_table(("series", "since", "", "lowest", "highest", "newest"), rows, "Nothing was kept of it.")


@app.command("canaries")
def show_canaries(
    accept: Annotated[str | None, typer.Option(help="Accept what answers behind this name now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show whether what answers behind each name is what was accepted."""
    with Client() as client:
        if accept is not None:
            client.monitoring.accept_canary(accept)
        found = client.monitoring.canaries().data
    if as_json:
        print_json(found)
        return
    print_table(
        ("model", "asked", "moved by (nats)", ""),
        (
            (one.model, when(one.asked_at), "-" if one.distance_nats is None else f"{one.distance_nats:.4f}",
             "CHANGED" if one.changed else "as accepted")
            for one in found
        ),
        "No model was asked yet.",
    )  # fmt: skip


def _bars(values: list[float], width: int = 40) -> str:
    """The course of values in a line of characters."""
    if len(values) > width:
        step = len(values) / width
        values = [values[int(index * step)] for index in range(width)]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in values)


@app.command("drift")
def show_drift(
    accept: Annotated[
        str | None, typer.Option(help="Accept what this model is asked and answers now.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show whether live questions and answers drifted. Sampling is off until MT_SAMPLING_SHARE is set."""
    with Client() as client:
        if accept is not None:
            client.monitoring.accept_drift(accept)
        found = client.monitoring.drift().data
    if as_json:
        print_json(found)
        return
    print_table(
        ("model", "samples", "furthest signal", ""),
        (
            (one.model, one.samples,
             f"{one.signals[0].name} {one.signals[0].effect:.2f} sd" if one.signals else "-", one.words)
            for one in found
        ),
        "No answer was sampled yet.",
    )  # fmt: skip
