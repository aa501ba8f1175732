"""One comparison from its request to the files of its report: gather, analyse, write."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from libs.common.errors import InvalidInput, JobFailure
from model_training.contracts.comparisons import (
    ComparisonCreate,
    ComparisonReport,
    Look,
    Profile,
    SideBySide,
    Upkeep,
)
from services.comparator.domain.analysis import Analysis, analyse, fair_items, verdict_so_far
from services.comparator.domain.arms import Arm
from services.comparator.domain.economics import Setup
from services.comparator.domain.looks import Looks, look
from services.comparator.domain.notes import without_some
from services.comparator.domain.results import total_cost_usd
from services.comparator.domain.upkeep import building_seconds, upkeep
from services.comparator.ports import Platform
from services.comparator.service import reporting
from services.comparator.service.gathering import Gatherer
from services.comparator.service.judging import Judge

REPORT = "report"
"""Name of the directory, inside a job's own, that becomes the artifact."""

T = TypeVar("T")
Render = Callable[[ComparisonReport, Sequence[SideBySide]], str]


@dataclass(frozen=True)
class Pages:
    """How a report becomes text."""

    html: Render
    markdown: Render


@dataclass(frozen=True)
class Outcome:
    """Everything that a comparison found."""

    report: ComparisonReport
    items: Sequence[SideBySide]
    proposals: Sequence[Mapping[str, str]]
    """Questions to answer and train on next."""


@dataclass(frozen=True)
class Plan:
    """What the worker hands to the child beside the request."""

    request: ComparisonCreate
    suite_rows: Mapping[str, int | None]
    """By suite: items that it holds; None if unknown."""

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Plan:
        """The plan of a child's order."""
        return cls(ComparisonCreate.model_validate(spec["request"]), spec.get("suite_rows", {}))

    def available(self, used: int) -> int | None:
        """Items beyond those used; None if some suite's size is unknown."""
        rows = list(self.suite_rows.values())
        known = [row for row in rows if row is not None]
        return max(0, sum(known) - used) if rows and len(known) == len(rows) else None


def compare(
    plan: Plan,
    gatherer: Gatherer,
    platform: Platform,
    *,
    machine: Callable[[Sequence[str]], dict[str, Any]],
    profiles: Sequence[Profile] = (),
    kept: Path | None = None,
) -> Outcome:
    """The report of a comparison, its items side by side, and what to ask next.

    Args:
        kept: a file for the judge's replies, so that an attempt after this one does not pay for them again.

    Raises:
        JobFailure: an arm could not be evaluated, or the arms did not answer the same items.
        JobStopped: a stop was asked for.
    """
    request = plan.request
    watcher = _Watcher(request, gatherer)
    graded = _is_graded(request)
    arms, seen = gatherer.arms(watcher.enough if watcher.is_needed else None) if graded else ([], Looks())
    free = gatherer.free_answers() if request.test_queries else {}
    arms = arms or gatherer.bare_arms()
    training = reporting.training_facts(platform, request)
    versions = reporting.index_versions(platform, request)
    setup = Setup(
        training.get("seconds"), {name: building_seconds(known) or 0.0 for name, known in versions.items()}
    )
    now = datetime.now(UTC)
    kept_up = [upkeep(name, known, now, arms, setup, request.prices) for name, known in versions.items()]
    analysis = _analyse(plan, arms, setup, free, profiles, (watcher.looks, seen), kept_up)
    missing = gatherer.missing
    analysis = replace(analysis, verdict=without_some(analysis.verdict, missing))
    judged = None
    if request.judge is not None and graded:
        judged = Judge(gatherer.context, platform, request.judge, kept).judge(fair_items(arms), request.seed)
    report = reporting.compose(
        gatherer.context.job_id,
        request,
        analysis,
        arms,
        training=training,
        looks=watcher.looks,
        missing=missing,
        judge=judged,
        upkeep=kept_up,
        order=gatherer.order if graded and request.blocks > 1 else [],
        environment=machine([arm.isolation for arm in arms if arm.isolation]),
    )
    return Outcome(report, analysis.items, analysis.proposals)


class _Watcher:
    """Looks at the items after each block, and says when they will do."""

    def __init__(self, request: ComparisonCreate, gatherer: Gatherer) -> None:
        self._request, self._gatherer = request, gatherer
        self.looks: list[Look] = []

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to stop for."""
        return self._request.blocks > 1 and (self._request.stop_early or self._request.budget_usd is not None)

    def enough(self, arms: Sequence[Arm], seen: Looks) -> bool:
        """Whether the verdict is settled, or the budget spent, or no block left."""
        request = self._request
        items = len(seen.ids[-1])
        verdict = _explained(lambda: verdict_so_far(request, arms, seen)) if items else None
        found = look(
            seen,
            verdict if request.stop_early else None,
            items=items,
            alpha=request.alpha,
            cost_usd=sum(total_cost_usd(arm, request.prices) for arm in arms),
            budget_usd=request.budget_usd,
        )
        self.looks.append(found)
        self._gatherer.context.event(
            f"Block {found.block} of {found.of} is in, {items:,} items: "
            f"{verdict.reason if verdict else 'nothing was graded yet.'}"
        )
        return found.stopped is not None


def _explained(work: Callable[[], T]) -> T:
    """What is wrong with the arms ends the job with its reason.

    Raises:
        JobFailure: the arms did not answer the same items.
    """
    try:
        return work()
    except InvalidInput as error:
        raise JobFailure.of(error) from error


def _is_graded(request: ComparisonCreate) -> bool:
    """Whether there are evaluations, to run or to read; free questions alone need none.

    Raises:
        JobFailure: some arms name an evaluation, and for the others there is nothing to evaluate on.
    """
    given = [arm.name for arm in request.arms if arm.evaluation is not None]
    missing = [arm.name for arm in request.arms if arm.evaluation is None]
    if given and missing and not request.suites:
        raise JobFailure(
            "nothing_to_evaluate",
            f"Arm {given[0]!r} names an evaluation, and there are no suites to evaluate arm "
            f"{missing[0]!r} on.",
            blame="user",
            param="suites",
            hint="Give the suites of that evaluation, or an evaluation for every arm.",
        )
    return bool(request.suites or given)


def _analyse(
    plan: Plan,
    arms: Sequence[Arm],
    setup: Setup,
    free: Mapping[str, Any],
    profiles: Sequence[Profile],
    looked: tuple[Sequence[Look], Looks],
    kept_up: Sequence[Upkeep],
) -> Analysis:
    available = plan.available(min(len(arm.items) for arm in arms)) if arms else None
    looks, seen = looked
    return _explained(
        lambda: analyse(
            plan.request,
            arms,
            items_available=available,
            setup=setup,
            free=free,
            profiles=profiles,
            looks=looks,
            seen=seen,
            kept_up=kept_up,
        )
    )


def write_report(workdir: Path, found: Outcome, pages: Pages) -> Path:
    """Write the report in every form into a fresh directory; it is there whole or not at all."""
    report, items = found.report, found.items
    target, staging = workdir / REPORT, workdir / f".{REPORT}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    files = {
        "report.json": report.model_dump_json(indent=2) + "\n",
        "report.md": pages.markdown(report, items),
        "report.html": pages.html(report, items),
        "report.csv": items_csv(items),
        "items.jsonl": "".join(item.model_dump_json() + "\n" for item in items),
        "report.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found.proposals),
    }
    for name, text in files.items():
        (staging / name).write_text(text, encoding="utf-8", errors="replace")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(staging, target)
    return target


COLUMNS = ("correct", "score", "status", "latency_s", "prompt_tokens", "completion_tokens", "output")


def items_csv(items: Sequence[SideBySide]) -> str:
    """One line per item and arm, for a spreadsheet; a cell that would be taken for a formula gets an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["item_id", "suite", "question", "reference", "arm", *COLUMNS])
    for item in items:
        for arm, answer in item.answers.items():
            row = [item.item_id, item.suite, item.question, item.reference, arm]
            writer.writerow(
                [_harmless(value) for value in [*row, *(getattr(answer, name) for name in COLUMNS)]]
            )
    return text.getvalue()


def _harmless(value: Any) -> Any:
    """Source: OWASP, "CSV Injection"."""
    return (
        f"'{value}"
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        else value
    )
