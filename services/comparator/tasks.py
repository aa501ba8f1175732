"""The job kind `compare`: what the child is told, and how its report becomes an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from libs.common.artifacts import ArtifactStore, directory_bytes
from libs.common.db.tables import FileRow, JobRow
from libs.common.files import file_path
from model_training.config.catalogue import find_model
from model_training.contracts.chat import ChatMessage
from model_training.contracts.comparisons import ArmSpec, ComparisonCreate
from model_training.contracts.evaluations import PromptSpec, SuiteSpec
from model_training.contracts.jobs import JobKind
from model_training.datasets.rows import TrainingRow, read_rows
from services.comparator import repository
from services.comparator.domain.shots import choose_shots, wants_shots

HUMAN_EVAL_TASKS = 164


class CompareHandler:
    """Runs comparisons; a report is published whole, in the transaction that ends the job."""

    kind = JobKind.COMPARE
    child_module = "services.comparator.child"

    def __init__(self, home: Path, artifacts: ArtifactStore) -> None:
        self._home = home
        self._artifacts = artifacts

    def prepare(self, session: Session, job: JobRow) -> dict[str, Any]:
        """The child's order: the request, the suites' sizes, and examples for models that need them."""
        request = ComparisonCreate.model_validate(job.spec)
        files = repository.find_files(session, job.project_id, _file_ids(request))
        return {
            "request": request.model_dump(mode="json"),
            "project": job.project_id,
            "suite_rows": {suite.name: _rows_of(suite, files) for suite in request.suites},
            "shots": self._shots(request, files),
        }

    def _shots(self, request: ComparisonCreate, files: Mapping[str, FileRow]) -> dict[str, Any]:
        """By arm: example turns for free questions, where the model was never instructed."""
        if not request.test_queries:
            return {}
        return {
            arm.name: [turn.model_dump() for turn in self._examples(arm, request, files)]
            for arm in request.arms
        }

    def _examples(
        self, arm: ArmSpec, request: ComparisonCreate, files: Mapping[str, FileRow]
    ) -> list[ChatMessage]:
        prompt = arm.prompt or request.prompt
        row = files.get(prompt.examples_file or "")
        entry = find_model(arm.model.rpartition("@")[2])
        count = wants_shots(prompt.shots, never_instructed=entry is not None and not entry.instructed)
        if row is None or count == 0:
            return []
        return choose_shots(self._read(row), count, request.test_queries)

    def _read(self, row: FileRow) -> list[TrainingRow]:
        path = file_path(self._home, row.sha256)
        return list(read_rows(path)) if path.exists() else []

    def store(self, session: Session, job: JobRow, name: str, data: dict[str, Any]) -> None:
        """A comparing child hands over everything at its end, nothing in between."""
        raise AssertionError(f"unexpected output {name!r}")

    def finish(self, session: Session, job: JobRow, result: dict[str, Any]) -> dict[str, Any]:
        """Commit the report's directory and name it in the job's result."""
        directory = self._home / "jobs" / job.id / result["report"]
        artifact = self._artifacts.commit(directory)
        repository.save_artifact(session, artifact, directory_bytes(directory), job.id)
        return {"artifact": artifact, "verdict": result["verdict"]}


def _file_ids(request: ComparisonCreate) -> set[str]:
    prompts: list[PromptSpec] = [request.prompt, *(arm.prompt for arm in request.arms if arm.prompt)]
    wanted = [suite.file for suite in request.suites] + [prompt.examples_file for prompt in prompts]
    return {file_id for file_id in wanted if file_id}


def _rows_of(suite: SuiteSpec, files: Mapping[str, FileRow]) -> int | None:
    """How many items a suite holds, by its file's report; None if it does not say."""
    if suite.file is None:
        return HUMAN_EVAL_TASKS if suite.name == "humaneval" else None
    row = files.get(suite.file)
    kinds: dict[str, int] = (row.report.get("kinds") or {}) if row else {}
    return kinds.get(suite.name)
