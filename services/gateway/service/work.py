"""Creating index, evaluation and comparison jobs: every name in a request is checked before anything is queued."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.orm import Session

from libs.common.db.tables import IndexRow, JobRow
from libs.common.errors import InvalidInput, NotFound
from model_training.contracts.comparisons import Comparison, ComparisonCreate
from model_training.contracts.evaluations import Evaluation, EvaluationCreate, PromptSpec, SuiteSpec
from model_training.contracts.files import FilePurpose
from model_training.contracts.indexes import Index, IndexCreate
from model_training.contracts.jobs import JobKind, JobState
from services.gateway import repository
from services.gateway.domain import Principal
from services.gateway.service import files, jobs, models


def create_index(session: Session, principal: Principal, request: IndexCreate, max_attempts: int) -> Index:
    """Queue the building of an index."""
    for file_id in request.files:
        files.require(session, principal, file_id, FilePurpose.CHUNKS)
    if request.base is not None and not repository.newest_index(session, principal.project_id, request.base):
        raise NotFound(
            f"There is no finished index {request.base!r}.", param="base", hint="`mt rag list` shows them."
        )
    row = jobs.create(
        session, JobKind.INDEX, principal, request.model_dump(mode="json"), request.metadata, max_attempts
    )
    return describe_index(row)


def create_evaluation(
    session: Session, principal: Principal, request: EvaluationCreate, max_attempts: int
) -> Evaluation:
    """Queue an evaluation."""
    name = models.require(session, principal, request.model)
    _check_suites(session, principal, request.suites, [request.prompt])
    # What `champion` means may change while the job waits; the job holds what it meant when it was asked for.
    spec = request.model_dump(mode="json") | {"model": name.text}
    row = jobs.create(session, JobKind.EVALUATE, principal, spec, request.metadata, max_attempts)
    return describe_evaluation(row)


def create_comparison(
    session: Session, principal: Principal, request: ComparisonCreate, max_attempts: int
) -> Comparison:
    """Queue a comparison."""
    if not request.suites and not request.test_queries:
        raise InvalidInput(
            "The comparison has nothing to ask.", param="suites", hint="Give suites or test_queries."
        )
    names = [arm.name for arm in request.arms]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput(
            f"Arm {twice[0]!r} is named twice.", param="arms", hint="Each arm needs its own name."
        )
    spec = request.model_dump(mode="json")
    for position, arm in enumerate(request.arms):
        name = models.require(session, principal, arm.model, f"arms.{position}.model")
        spec["arms"][position]["model"] = name.text
        if arm.evaluation is not None:
            jobs.require(session, principal, arm.evaluation, JobKind.EVALUATE)
    if request.training_job is not None:
        jobs.require(session, principal, request.training_job, JobKind.TRAIN)
    prompts = [request.prompt, *(arm.prompt for arm in request.arms if arm.prompt)]
    _check_suites(session, principal, request.suites, prompts)
    row = jobs.create(session, JobKind.COMPARE, principal, spec, request.metadata, max_attempts)
    return describe_comparison(row)


def _check_suites(
    session: Session, principal: Principal, suites: Iterable[SuiteSpec], prompts: Iterable[PromptSpec]
) -> None:
    for suite in suites:
        if suite.file is not None:
            files.require(session, principal, suite.file, FilePurpose.EVALUATION)
    for prompt in prompts:
        if prompt.examples_file is not None:
            files.require(session, principal, prompt.examples_file, FilePurpose.FINE_TUNE)


def describe_index(row: JobRow, built: IndexRow | None = None) -> Index:
    """An index as the API shows it; `built` adds its tuned defaults."""
    result = row.result or {}
    return Index(
        id=row.id,
        name=row.spec["name"],
        state=JobState(row.state),
        created_at=row.created_at,
        embedder=row.spec["embedder"],
        chunks=result.get("chunks", 0),
        dimension=result.get("dimension"),
        search=built.stamp.get("search") if built else None,
        progress=jobs.progress_of(row),
        error=jobs.error_of(row),
    )


def describe_evaluation(row: JobRow) -> Evaluation:
    """An evaluation as lists show it; the evaluator adds what it found."""
    return Evaluation(
        id=row.id,
        state=JobState(row.state),
        created_at=row.created_at,
        model=row.spec["model"],
        suites=(row.result or {}).get("suites", []),
        prompt=PromptSpec.model_validate(row.spec["prompt"]),
        progress=jobs.progress_of(row),
        error=jobs.error_of(row),
    )


def describe_comparison(row: JobRow) -> Comparison:
    """A comparison as lists show it; the comparator adds the report."""
    return Comparison(
        id=row.id,
        state=JobState(row.state),
        created_at=row.created_at,
        arms=row.spec["arms"],
        progress=jobs.progress_of(row),
        error=jobs.error_of(row),
    )
