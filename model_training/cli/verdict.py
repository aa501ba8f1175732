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
    for words in (*(bound.words for bound in report.bounds), *([report.judge.words] if report.judge else [])):
        console.print(Text(f"\n{words}"), soft_wrap=True)
    console.print(_verdict(report.verdict))


def _arms(arms: list[ArmResult]) -> Table:
    suites = sorted({suite for arm in arms for suite in arm.suites})
    table = _table("Arms over the same items")
    table.add_column("arm", style="bold", no_wrap=True)
    names = [suite.replace("_", "\n") for suite in suites]
    for column in ("right", "% [95% interval]", *names, "QA F1", "p50", "cost"):
        table.add_column(column, justify="right", no_wrap=True, vertical="bottom")
    for arm in arms:
        table.add_row(
            arm.name,
            f"{arm.correct}/{arm.n}",
            f"{100 * arm.pass_rate:.1f} [{100 * arm.ci_low:.1f}, {100 * arm.ci_high:.1f}]",
            *(_suite(arm, suite) for suite in suites),
            "-" if arm.qa_f1 is None else f"{arm.qa_f1:.3f}",
            f"{arm.latency_p50_s:.1f} s",
            f"${arm.cost_usd:.4f}",
        )
    return table


def _suite(arm: ArmResult, suite: str) -> str:
    values = arm.suites.get(suite)
    if not values:
        return "-"
    return f"{values.get('correct', 0):.0f}/{values.get('n', 0):.0f}"


def _pairs(pairs: list[PairResult]) -> Table:
    """In points of a hundred; a test that all pairs share is named once, below."""
    tests = {pair.test for pair in pairs}
    table = _table("\nPaired differences in points (second minus first)")
    table.add_column("pair", no_wrap=True)
    for column in ("difference [95% interval]", "p", "p (Holm)"):
        table.add_column(column, justify="right", no_wrap=True)
    if len(tests) > 1:
        table.add_column("test")
    for pair in pairs:
        row = (
            f"{pair.a} → {pair.b}",
            f"{100 * pair.difference:+.1f} [{100 * pair.ci_low:+.1f}, {100 * pair.ci_high:+.1f}]",
            _p(pair.p),
            Text(_p(pair.p_adjusted), style="bold green" if pair.p_adjusted < 0.05 else ""),
        )
        table.add_row(*row, *([pair.test] if len(tests) > 1 else []))
    if len(tests) == 1:
        table.caption = f"Test: {tests.pop()}"
        table.caption_justify = "left"
    return table


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0)
    )


def _verdict(verdict: Verdict) -> Panel:
    headline = f"Deploy: {verdict.recommended}" if verdict.recommended else "Cannot tell yet"
    confidence = f"  (confidence: {verdict.confidence.replace('_', ' ')})"
    lines = [
        Text.assemble((headline, f"bold {STYLES[verdict.confidence]}"), (confidence, "dim")),
        Text(verdict.reason),
        *(Text(f"· {note}", style="dim") for note in verdict.notes),
    ]
    return Panel(Group(*lines), title="Verdict", title_align="left", expand=False)
