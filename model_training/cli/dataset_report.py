"""How the check of a data set is shown in a terminal of 80 columns."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from model_training.datasets.findings import (
    ADVICE,
    ERRORS,
    Check,
    CheckReport,
    FileSummary,
    Finding,
    TokenReport,
)

BAR_WIDTH = 40


def show_report(report: CheckReport, console: Console, shown: int) -> None:
    """Files, sizes, and for each check what it means and its first `shown` findings; errors first."""
    for file in report.files:
        console.print(_file(file))
    console.print(_sums(report))
    if report.tokens is not None:
        _show_tokens(report.tokens, console)
    for check in sorted(report.counts, key=lambda check: (check not in ERRORS, list(Check).index(check))):
        _show_check(report, check, console, shown)
    for note in report.notes:
        console.print(Text(note, style="yellow"))
    console.print(_verdict(report))


def _file(file: FileSummary) -> Text:
    shapes = ", ".join(f"{shape} {count:,}" for shape, count in file.shapes.items()) or "none usable"
    role = "" if file.role == "training" else f" ({file.role})"
    text = Text.assemble(
        (file.path, "bold"),
        f"{role}: {file.format}, {_rows(file.rows)} ({shapes}), {file.bytes / 1e6:,.1f} MB",
    )
    if file.faulty:
        text.append(f", {file.faulty:,} unusable", "red")
    return text


def _sums(report: CheckReport) -> Text:
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in report.kinds.items()) or "none"
    rate = f", {report.rows / report.seconds:,.0f} rows/s" if report.seconds >= 1 else ""
    return Text(
        f"{_rows(report.rows)} ({kinds}), {report.characters:,} characters; {report.seconds:.1f} s{rate}."
    )


def _show_tokens(tokens: TokenReport, console: Console) -> None:
    mean = tokens.tokens / max(tokens.rows, 1)
    console.print(f"\n{tokens.tokens:,} tokens, {mean:,.0f} a row, {tokens.longest:,} in the longest:")
    most = max((one.rows for one in tokens.histogram), default=1)
    for one in tokens.histogram:
        name = f"to {one.up_to:,}" if one.up_to is not None else "more"
        console.print(f"{name:>12} {one.rows:>12,} {'█' * round(BAR_WIDTH * one.rows / most)}")
    if tokens.max_length is not None:
        console.print(
            f"{_rows(tokens.overlong)} above {tokens.max_length:,} tokens; truncation would cut {tokens.cut_tokens:,} "
            f"tokens and leave {_rows(tokens.unanswered)} without any answer."
        )


def _show_check(report: CheckReport, check: Check, console: Console, shown: int) -> None:
    count = report.counts[check]
    kind, style = ("error", "bold red") if check in ERRORS else ("warning", "bold yellow")
    console.print(
        Text.assemble(
            (f"\n{check.value}: {count:,} {kind}{'s' if count != 1 else ''}. ", style), ADVICE[check]
        )
    )
    findings = [finding for finding in report.findings if finding.check is check][:shown]
    for finding in findings:
        console.print(Padding(_finding(finding), (0, 0, 0, 2)))
    if count > len(findings):
        console.print(f"  and {count - len(findings):,} more")


def _finding(finding: Finding) -> Text:
    place = f"{finding.file}:{finding.row}" if finding.row else finding.file
    field = f"{finding.field} " if finding.field else ""
    return Text.assemble((place, "cyan"), f"  {field}{finding.message}")


def _verdict(report: CheckReport) -> Text:
    if not report.counts:
        return Text("No faults.", style="green")
    style = "red" if report.errors else "yellow"
    errors = f"{report.errors:,} error{'s' if report.errors != 1 else ''}"
    warnings = f"{report.warnings:,} warning{'s' if report.warnings != 1 else ''}"
    return Text(f"\n{errors}, {warnings}.", style=style)


def _rows(count: int) -> str:
    return f"{count:,} row{'s' if count != 1 else ''}"
