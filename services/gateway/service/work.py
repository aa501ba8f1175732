"""Creating index, evaluation and comparison jobs: every name in a request is checked before anything is queued."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.orm import Session

from libs.common.db.tables import IndexRow, JobRow
from libs.common.errors import InvalidInput, NotFound
from model_training.contracts.comparisons import Comparison, ComparisonCreate
from model_training.contracts.evaluations import (
    Evaluation,
    EvaluationCreate,
    Passages,
    PromptSpec,
    SuiteSpec,
)
from model_training.contracts.files import FilePurpose
from model_training.contracts.indexes import Index, IndexCreate
from model_training.contracts.jobs import JobKind, JobState
from services.gateway import repository
from services.gateway.domain import ModelName, Principal
from services.gateway.service import endpoints, files, jobs, models


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
    _check_passages(name, request.passages, "passages")
    if request.part is not None and request.part.number > request.part.of:
        raise InvalidInput(
            f"Part {request.part.number} of {request.part.of} is asked for.",
            param="part.number",
            hint=f"Parts are numbered from 1 to {request.part.of}.",
        )
    _check_suites(session, principal, request.suites, [request.prompt])
    # What `champion` means may change while the job waits; the job holds what it meant when it was asked for.
    spec = request.model_dump(mode="json") | {"model": name.text}
    if name.external is not None and request.prices is None:
        spec["prices"] = endpoints.prices_of(endpoints.require(session, principal, name.external))
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
        _check_passages(name, arm.passages, f"arms.{position}.passages")
        if name.external is not None and arm.prices is None:
            row = endpoints.require(session, principal, name.external)
            spec["arms"][position]["prices"] = endpoints.prices_of(row)
        spec["arms"][position]["model"] = name.text
        if arm.evaluation is not None:
            jobs.require(session, principal, arm.evaluation, JobKind.EVALUATE)
    _check_blocks(request)
    if request.judge is not None:
        spec["judge"]["model"] = models.require(session, principal, request.judge.model, "judge.model").text
    if request.training_job is not None:
        jobs.require(session, principal, request.training_job, JobKind.TRAIN)
    prompts = [request.prompt, *(arm.prompt for arm in request.arms if arm.prompt)]
    _check_suites(session, principal, request.suites, prompts)
    row = jobs.create(session, JobKind.COMPARE, principal, spec, request.metadata, max_attempts)
    return describe_comparison(row)


def _check_passages(name: ModelName, passages: Passages, param: str) -> None:
    if passages == "right" and name.index is None:
        raise InvalidInput(
            f"{name.text} answers without an index, so it cannot be given the right passages.",
            param=param,
            hint="Name the model as rag:<index>@<model>.",
        )


def _check_blocks(request: ComparisonCreate) -> None:
    """Bounds stand beside other arms, and only what is still to be asked can be stopped."""
    if all(arm.passages == "right" for arm in request.arms):
        raise InvalidInput(
            "Every arm is given the right passages, so none can be recommended.",
            param="arms",
            hint="Add an arm whose passages are `searched`, or one without retrieval.",
        )
    wants_looks = request.stop_early or request.budget_usd is not None
    if wants_looks and request.blocks == 1:
        raise InvalidInput(
            "To stop early, the items must come in several blocks.",
            param="blocks",
            hint="Set blocks to 4, for example.",
        )
    given = [arm.name for arm in request.arms if arm.evaluation is not None]
    if wants_looks and given:
        raise InvalidInput(
            f"Arm {given[0]!r} names an evaluation that is finished, so there is nothing to stop.",
            param="stop_early",
            hint="Leave the evaluation out, or do not stop early.",
        )


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
