"""The outcome of a comparison as tables in the terminal: the verdict, the arms, the paired differences."""

from __future__ import annotations

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from model_training.contracts.comparisons import ArmResult, ComparisonReport, PairResult, Verdict

STYLES = {"high": "green", "moderate": "yellow", "cannot_tell": "yellow"}


def show(report: ComparisonReport, console: Console) -> None:
    """Print the tables, the verdict last, where the eye rests. Of the pairs, those that decide; the report has them all."""
    console.print(_arms(report.arms))
    deciding = [pair for pair in report.pairs if pair.metric == "correct"] or report.pairs
    if deciding:
        console.print(_pairs(deciding))
    console.print(_verdict(report.verdict))


def _arms(arms: list[ArmResult]) -> Table:
    suites = sorted({suite for arm in arms for suite in arm.suites})
    table = Table(
        title="Arms over the same items", title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    table.add_column("arm", style="bold")
    table.add_column("right", justify="right")
    table.add_column("rate [95% interval]", justify="right")
    for suite in suites:
        table.add_column(suite.replace("_", " "), justify="right")
    for column in ("QA F1", "p50", "p95", "tokens in/out", "cost"):
        table.add_column(column, justify="right")
    for arm in arms:
        table.add_row(
            arm.name,
            f"{arm.correct}/{arm.n}",
            f"{arm.pass_rate:.1%} [{arm.ci_low:.1%}, {arm.ci_high:.1%}]",
            *(_suite(arm, suite) for suite in suites),
            "-" if arm.qa_f1 is None else f"{arm.qa_f1:.3f}",
            f"{arm.latency_p50_s:.2f} s",
            f"{arm.latency_p95_s:.2f} s",
            f"{arm.prompt_tokens:,}/{arm.completion_tokens:,}",
            f"${arm.cost_usd:.4f}",
        )
    return table


def _suite(arm: ArmResult, suite: str) -> str:
    values = arm.suites.get(suite)
    if not values:
        return "-"
    return f"{values.get('correct', 0):.0f}/{values.get('n', 0):.0f}"


def _pairs(pairs: list[PairResult]) -> Table:
    table = Table(
        title="\nPaired differences (second minus first)",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
    )
    table.add_column("pair")
    for column in ("difference [95% interval]", "p", "p (Holm)"):
        table.add_column(column, justify="right")
    table.add_column("test")
    for pair in pairs:
        table.add_row(
            f"{pair.a} → {pair.b}",
            f"{pair.difference:+.3f} [{pair.ci_low:+.3f}, {pair.ci_high:+.3f}]",
            f"{pair.p:.3g}",
            Text(f"{pair.p_adjusted:.3g}", style="bold green" if pair.p_adjusted < 0.05 else ""),
            pair.test,
        )
    return table


def _verdict(verdict: Verdict) -> Panel:
    headline = f"Deploy: {verdict.recommended}" if verdict.recommended else "Cannot tell yet"
    confidence = f"  (confidence: {verdict.confidence.replace('_', ' ')})"
    lines = [
        Text.assemble((headline, f"bold {STYLES[verdict.confidence]}"), (confidence, "dim")),
        Text(verdict.reason),
        *(Text(f"· {note}", style="dim") for note in verdict.notes),
    ]
    if verdict.items_needed is not None:
        lines.append(Text(f"Items needed: {verdict.items_needed}; available: {verdict.items_available}."))
    return Panel(Group(*lines), title="Verdict", title_align="left", expand=False)
