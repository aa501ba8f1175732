"""Reads comparisons: state from the job, findings from the committed report."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from libs.common.artifacts import ArtifactStore
from libs.common.db.engine import Database
from libs.common.db.tables import JobRow
from libs.common.errors import Conflict, NotFound
from model_training.contracts.base import Page
from model_training.contracts.comparison_views import Matrix, WhatIf, WhatIfReply
from model_training.contracts.comparisons import (
    ArmSpec,
    Comparison,
    ComparisonCreate,
    ComparisonReport,
    SideBySide,
)
from model_training.contracts.jobs import JobError, JobProgress, JobState
from services.comparator import repository
from services.comparator.service import browsing
from services.comparator.service.what_if import what_if

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl",
}


class Comparisons:
    """The reading side of the service."""

    def __init__(self, database: Database, artifacts: ArtifactStore) -> None:
        self._database = database
        self._artifacts = artifacts

    def get(self, comparison_id: str) -> Comparison:
        """A comparison; its report is there once it has succeeded.

        Raises:
            NotFound: there is none of that id.
        """
        job = self._job(comparison_id)
        report = None
        if job.state == JobState.SUCCEEDED.value:
            report = ComparisonReport.model_validate_json(
                (self._directory(job) / "report.json").read_text(encoding="utf-8")
            )
        return Comparison(
            id=job.id,
            state=JobState(job.state),
            created_at=job.created_at,
            arms=[ArmSpec.model_validate(arm) for arm in job.spec["arms"]],
            request=ComparisonCreate.model_validate(job.spec),
            report=report,
            progress=JobProgress.model_validate(job.progress or {}),
            error=JobError.model_validate(job.error) if job.error else None,
        )

    def items(self, comparison_id: str, after: str | None, limit: int) -> Page[SideBySide]:
        """A page of items side by side, in the report's order.

        Raises:
            NotFound: there is no such comparison, or no item `after` in it.
            Conflict: the comparison has no report yet.
        """
        path = self._directory(self._job(comparison_id)) / "items.jsonl"
        rows = list(islice(_after(path, after), limit + 1))
        data = rows[:limit]
        return Page[SideBySide](
            data=data,
            first_id=data[0].item_id if data else None,
            last_id=data[-1].item_id if data else None,
            has_more=len(rows) > limit,
        )

    def matrix(self, comparison_id: str, wanted: browsing.Wanted, offset: int, limit: int) -> Matrix:
        """A stretch of the items that are wanted, without their texts.

        Raises:
            NotFound: there is no such comparison.
            Conflict: the comparison has no report yet.
            InvalidInput: an arm is named that it does not have.
        """
        path = self._directory(self._job(comparison_id)) / "items.jsonl"
        return browsing.matrix(path, wanted, offset, limit)

    def item(self, comparison_id: str, position: int) -> SideBySide:
        """One item by its place in the report's order, counted from 0.

        Raises:
            NotFound: there is no such comparison, or no such item in it.
            Conflict: the comparison has no report yet.
        """
        return browsing.item_at(self._directory(self._job(comparison_id)) / "items.jsonl", position)

    def what_if(self, comparison_id: str, request: WhatIf) -> WhatIfReply:
        """Break-even and uses at other prices.

        Raises:
            NotFound: there is no such comparison.
            Conflict: the comparison has no report yet.
        """
        return what_if(self._directory(self._job(comparison_id)), request)

    def report(self, comparison_id: str, format: str) -> Path:
        """The file of a report.

        Raises:
            NotFound: there is no such comparison, or no such format.
            Conflict: the comparison has no report yet.
        """
        if format not in MEDIA_TYPES:
            raise NotFound(
                f"There is no report in {format!r}.", param="format", hint=f"{', '.join(MEDIA_TYPES)} are."
            )
        return self._directory(self._job(comparison_id)) / f"report.{format}"

    def _job(self, comparison_id: str) -> JobRow:
        with self._database.session() as session:
            job = repository.find_comparison(session, comparison_id)
        if job is None:
            raise NotFound(f"There is no comparison {comparison_id!r}.", param="id")
        return job

    def _directory(self, job: JobRow) -> Path:
        if job.state != JobState.SUCCEEDED.value or not job.result:
            raise Conflict(
                f"The comparison {job.id} has no report; its state is {job.state}.",
                param="id",
                hint=f"Follow it with GET /v1/jobs/{job.id}/events.",
            )
        return self._artifacts.path(job.result["artifact"])


def _after(path: Path, item_id: str | None) -> Iterator[SideBySide]:
    found = item_id is None
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            item = SideBySide.model_validate_json(line)
            if found:
                yield item
            elif item.item_id == item_id:
                found = True
    if not found:
        raise NotFound(f"There is no item {item_id!r} in this comparison.", param="after")
