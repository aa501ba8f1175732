"""`mt rag evaluate` and `mt rag tune`: how well an index is searched, and how it should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError

from model_training.cli.console import out, print_json, print_table
from model_training.client.client import Client
from model_training.contracts.retrieval import (
    Estimate,
    LabelledQuestion,
    RetrievalMetrics,
    RetrievalReport,
    SearchOptions,
)
from model_training.errors import UserError

IndexName = Annotated[str, typer.Argument(help="An index's name or id.")]
QuestionFile = Annotated[
    Path,
    typer.Argument(
        metavar="QUESTIONS", help="JSON Lines: labelled questions, or the evaluation items of `mt dataset`."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
WAYS: dict[str, SearchOptions] = {
    "dense": SearchOptions(mode="dense"),
    "bm25": SearchOptions(mode="bm25"),
    "hybrid": SearchOptions(
        mode="hybrid",
        fusion="rrf",
        rrf_k=2,
        dense_weight=1.0,
        bm25_weight=1.01,
        depth=50,
        diversity=0,
        rerank="none",
    ),
    "tuned": SearchOptions(),
}
"""What `mt rag evaluate` sets side by side: `hybrid` is the platform's default, `tuned` the index's own."""


def evaluate(
    name: IndexName,
    questions: QuestionFile,
    k: Annotated[int, typer.Option(min=1, max=100, help="Passages that count.")] = 5,
    limit: Annotated[int | None, typer.Option(min=1, max=2000, help="The first n questions only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure dense, BM25 and hybrid search and the index's own default on labelled questions."""
    asked = read_questions(questions)[:limit]
    with Client() as client:
        reports = {way: client.indexes.evaluate(name, asked, k=k, options=WAYS[way]) for way in WAYS}
    if as_json:
        print_json({way: report.model_dump(mode="json") for way, report in reports.items()})
        return
    first = reports["hybrid"]
    print_table(
        ("search", *_columns(first.overall)),
        ((way, *_cells(report.overall)) for way, report in reports.items()),
        "Nothing was measured.",
    )
    own = reports["tuned"]
    out.print(
        f"\nBy kind of question, searched by the index's own default ({described(own.options)}):",
        soft_wrap=True,
    )
    print_table(
        ("kind", "questions", *_columns(own.overall)),
        ((kind, row.questions, *_cells(row)) for kind, row in own.by_kind.items()),
        "",
    )
    out.print(_remarks(own), soft_wrap=True)


def tune(
    name: IndexName,
    questions: QuestionFile,
    k: Annotated[int, typer.Option(min=1, max=100, help="Passages that count.")] = 5,
    metric: Annotated[Literal["ndcg", "recall", "mrr"], typer.Option(help="What to improve.")] = "ndcg",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do not change the index.")] = False,
    as_json: AsJson = False,
) -> None:
    """Choose how an index is searched: the best on half of the questions, if it is better on the other half too."""
    asked = read_questions(questions)
    with Client() as client:
        report = client.indexes.tune(name, asked, k=k, metric=metric, store=not dry_run)
    if as_json:
        print_json(report)
        return
    print_table(
        ("rank", f"{metric}@{k}", "search"),
        (
            (rank, f"{row.pop(metric):.3f}", described(SearchOptions.model_validate(row)))
            for rank, row in enumerate(report.best, start=1)
        ),
        "",
    )
    out.print(f"\nOn the {report.held_out} questions that did not choose, {metric}@{k}:")
    out.print(f"  default {shown(report.default)}, chosen {shown(report.tuned)}", soft_wrap=True)
    out.print(f"  best less default {shown(report.difference)}", soft_wrap=True)
    kept = "Stored with the index." if report.stored else "Not stored."
    out.print(f"{report.reason} {kept}", soft_wrap=True)
    out.print(f"[bold]{described(report.chosen)}[/]", soft_wrap=True)


def read_questions(path: Path) -> list[LabelledQuestion]:
    """Labelled questions; an evaluation item is one whose passage is about the item's function.

    Raises:
        UserError: the file cannot be read, or a row is neither.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    found: list[LabelledQuestion] = []
    for row, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(LabelledQuestion.model_validate(_labelled(json.loads(line))))
        except (ValueError, ValidationError) as error:
            raise UserError(
                f"{path}, row {row}: {str(error).splitlines()[0]}.",
                hint='A question is {"id": "q1", "question": "…", "passages": ["id of a passage"]}.',
            ) from error
    if not found:
        raise UserError(f"{path} holds no question.")
    return found


def _labelled(row: dict[str, Any]) -> dict[str, Any]:
    if "group" not in row:
        return row
    return {
        "id": row["id"],
        "question": row["question"],
        "functions": [row["group"]],
        "kind": row.get("form", "all"),
    }


def described(options: SearchOptions) -> str:
    """A search in a few words."""
    words = [options.mode or "hybrid"]
    if options.mode == "hybrid":
        words.append(
            "DBSF"
            if options.fusion == "dbsf"
            else f"RRF k={options.rrf_k}, dense {options.dense_weight:g} : BM25 {options.bm25_weight:g}"
        )
    if options.diversity:
        words.append(f"diversity {options.diversity:g}")
    if options.rerank not in (None, "none"):
        words.append(f"re-ranked by {options.rerank}")
    return ", ".join(words)


def shown(value: Estimate) -> str:
    """An estimate with its interval."""
    return f"{value.estimate:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _columns(metrics: RetrievalMetrics) -> list[str]:
    return [*(f"recall@{depth}" for depth in metrics.recall), "MRR", "nDCG"]


def _cells(metrics: RetrievalMetrics) -> list[str]:
    return [shown(value) for value in (*metrics.recall.values(), metrics.mrr, metrics.ndcg)]


def _remarks(report: RetrievalReport) -> str:
    remark = (
        f"{report.overall.questions} questions, {len(report.misses)} of them without a hit among {report.k}."
    )
    if report.unlabelled:
        remark += f" {len(report.unlabelled)} name nothing that the index holds and do not count."
    return remark
