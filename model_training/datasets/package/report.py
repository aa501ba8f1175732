"""The report of a data set: what each source gave, what was dropped and why, and that nothing leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, cast

from model_training.datasets.leaks import Leak
from model_training.datasets.package.docstrings import Dropped
from model_training.datasets.package.proof import Yield

FEW_TASKS = 50  # fewer executable tasks than this say little: question answering has to carry the evaluation


@dataclass(frozen=True)
class PackageReport:
    """One package: `yields` by kind of source, items and rows by form."""

    name: str
    distribution: str
    version: str
    functions: int
    functions_asked: int
    yields: dict[str, Yield]
    tasks: dict[str, int]
    task_sources: dict[str, int]
    questions: dict[str, int]
    rows: dict[str, int]
    chunks: int
    unreadable: dict[str, str]
    not_asked: dict[str, int]


@dataclass(frozen=True)
class DatasetReport:
    """What `build_from_packages` did. `held_out` are documentation pieces that were taken out of passages."""

    packages: tuple[PackageReport, ...]
    seed: int
    python: str
    tasks: int
    questions: int
    rows: int
    validation_rows: int
    chunks: int
    held_out: tuple[Dropped, ...]
    dropped_items: tuple[Dropped, ...]
    leaks: tuple[Leak, ...]
    notes: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict[str, str])

    def as_json(self) -> dict[str, Any]:
        """Plain values, in a fixed order."""
        return _plain(self)


def _plain(value: Any) -> Any:
    """Plain values; counters by falling count, so that the same data set gives the same bytes."""
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Counter):
        counts = cast("Counter[str]", value)
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in cast("list[Any]", value)]
    return value


def yield_rows(reports: Sequence[PackageReport]) -> list[tuple[str, ...]]:
    """The yield table: package, source, seen, can stand alone, confirmed by running, functions, most frequent reasons."""
    rows: list[tuple[str, ...]] = []
    for one in reports:
        for kind, result in one.yields.items():
            reasons = ", ".join(f"{reason} {count}" for reason, count in result.dropped.most_common(3))
            numbers = (result.seen, result.candidates, result.confirmed, result.functions)
            rows.append((f"{one.name} {one.version}", kind, *map(str, numbers), reasons))
    return rows


YIELD_HEAD = (
    "package",
    "source",
    "seen",
    "stand alone",
    "confirmed",
    "functions",
    "dropped, most frequent reasons",
)
SIZE_HEAD = ("package", "public functions", "asked about", "tasks", "questions", "rows", "passages")


def size_rows(reports: Sequence[PackageReport]) -> list[tuple[str, ...]]:
    """The size table: what the data set holds of each package."""
    return [
        (f"{one.name} {one.version}", str(one.functions), str(one.functions_asked), str(sum(one.tasks.values())),
         str(sum(one.questions.values())), str(sum(one.rows.values())), str(one.chunks))
        for one in reports
    ]  # fmt: skip


def as_markdown(report: DatasetReport) -> str:
    """The report as a page."""
    forms = Counter[str]()
    for one in report.packages:
        forms.update({f"task: {form}": count for form, count in one.tasks.items()})
        forms.update({f"question: {form}": count for form, count in one.questions.items()})
        forms.update({f"row: {form}": count for form, count in one.rows.items()})
    exact = [leak for leak in report.leaks if leak.kind != "near"]
    near = [leak for leak in report.leaks if leak.kind == "near"]
    parts = [
        "# Data set", *report.notes,
        f"{report.tasks} executable tasks, {report.questions} questions, {report.rows} training rows (and "
        f"{report.validation_rows} for validation), {report.chunks} passages. Seed {report.seed}, Python {report.python}.",
        "## What it holds", table(SIZE_HEAD, size_rows(report.packages)),
        "## What each source gave", table(YIELD_HEAD, yield_rows(report.packages)),
        "## Forms", table(("form", "count"), [(form, str(count)) for form, count in sorted(forms.items())]),
        "## Leaks",
        f"Exact: {len(exact)}. Near (90% of the word 8-grams of an item stand in one row or passage): {len(near)}.",
        *(f"- {leak.kind}: {leak.item} in {leak.where} ({leak.share:.0%})" for leak in report.leaks),
        "## Taken out of passages, because it shows a held-out call",
        "\n".join(f"- {one.where}: `{one.text.splitlines()[0][:120]}`" for one in report.held_out) or "Nothing.",
        "## Items dropped at the last check",
        "\n".join(f"- {one.where}: {one.text}" for one in report.dropped_items) or "None.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)
