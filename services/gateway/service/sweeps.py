"""Sweeps: every trial checked as a fine-tuning job before anything is stored, and shown with rank and reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from libs.common.db.tables import JobRow, SweepRunRow
from libs.common.errors import InvalidInput, PlatformError
from libs.common.jobs import transitions
from libs.common.jobs.sweep_rules import Result, Standing, standings
from libs.common.jobs.sweep_turn import Start, best_of
from model_training.contracts.base import Page
from model_training.contracts.jobs import JobError, JobKind, JobState
from model_training.contracts.sweep_search import Settings, SweepFault, trials_of
from model_training.contracts.sweeps import RunState, Sweep, SweepBest, SweepCreate, SweepRun, SweepTrial
from services.gateway import repository
from services.gateway.domain import ALL_SCOPES, Principal
from services.gateway.service import jobs, steps

MEASURED_BY = frozenset({"validation_fraction", "train_on", "max_length", "overlong"})
"""Settings that change which tokens `eval_loss` is measured on: trials that differ in them cannot be compared."""

LONGEST_VALUE = 80


def create(session: Session, principal: Principal, request: SweepCreate, max_attempts: int) -> Sweep:
    """Queue a sweep, all of it or nothing.

    Raises:
        PlatformError: a trial could not be created as a fine-tuning job; `param` names the field, the detail its value.
    """
    try:
        trials = trials_of(request)
    except SweepFault as fault:
        raise InvalidInput(fault.message, param=fault.param, hint=fault.hint) from fault
    _check_fields(request)
    _rehearse(session, replace(principal, admitted=True), request, trials, max_attempts)
    spec = request.model_dump(mode="json", exclude={"metadata"})
    row = jobs.create(session, JobKind.SWEEP, principal, spec, request.metadata, max_attempts=1)
    for number, settings in enumerate(trials, 1):
        run = SweepRunRow(sweep_id=row.id, trial=number, seed=request.seeds[0], settings=settings)
        run.state = RunState.WAITING.value
        session.add(run)
    session.flush()
    return describe(session, row)


def _check_fields(request: SweepCreate) -> None:
    for section, names in (("config", request.config), ("search", request.search)):
        if "seed" in names:
            raise InvalidInput(
                f"{section}.seed: a sweep has its own field for the seeds of its jobs.",
                param=f"{section}.seed",
                hint="List them in `seeds`.",
            )
    for name in request.search:
        if name in request.config:
            raise InvalidInput(
                f"search.{name}: config has {name} = {_short(request.config[name])} for all trials.",
                param=f"search.{name}",
                hint="Name a setting in `config` or in `search`, not in both.",
            )
        if name in MEASURED_BY or (name == "max_rows" and request.validation_file is None):
            raise InvalidInput(
                f"search.{name}: it changes what {request.metric} is measured on, so trials could not be compared.",
                param=f"search.{name}",
                hint="Set it in `config`."
                if name in MEASURED_BY
                else "Give a validation_file, or set it in `config`.",
            )


def _rehearse(
    session: Session,
    principal: Principal,
    request: SweepCreate,
    trials: Sequence[Settings],
    max_attempts: int,
) -> None:
    """Create the job of every trial, and take it all back.

    What is refused here is what the driver would be refused later, by the very same code.
    """
    spec = request.model_dump(mode="json")
    with session.begin_nested() as rehearsal:
        for settings in trials:
            body = _body(spec, settings, request.seeds[0])
            try:
                job = steps.create(session, principal, JobKind.TRAIN, body, max_attempts)
            except PlatformError as error:
                raise _in_trial(error, request.config, settings) from error
            if request.validation_file is None and not job.spec["config"]["validation_fraction"]:
                raise InvalidInput(
                    f"config.validation_fraction = 0: without rows to validate on there is no {request.metric} to compare.",
                    param="config.validation_fraction",
                    hint="Give a validation_file, or hold a share of the training rows out.",
                )
        rehearsal.rollback()


def _body(spec: Mapping[str, Any], settings: Settings, seed: int) -> dict[str, Any]:
    """The fine-tuning job of a trial with a seed."""
    return {
        "model": spec["model"],
        "training_file": spec["training_file"],
        "validation_file": spec["validation_file"],
        "seed": seed,
        "training": {**spec["config"], **settings},
    }


def _in_trial(error: PlatformError, config: Mapping[str, Any], settings: Settings) -> PlatformError:
    """The same complaint, with the field of the sweep and its value in front."""
    name = (error.param or "").removeprefix("training.").partition(".")[0]
    if name in settings:
        param, place = f"search.{name}", f"search.{name} = {_short(settings[name])}: "
    elif name in config:
        param, place = f"config.{name}", f"config.{name} = {_short(config[name])}: "
    elif name in ("model", "training_file", "validation_file"):
        param, place = name, ""
    else:  # a rule between settings, which complains of one that is not given
        tried = ", ".join(f"{key} = {_short(value)}" for key, value in settings.items())
        param, place = error.param or "search", f"The trial with {tried}: "
    return type(error)(
        place + error.detail,
        param=param,
        hint=error.hint,
        rows=error.rows,
        retry_after_s=error.retry_after_s,
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def starter(max_attempts: Callable[[], int]) -> Start:
    """How the driver starts runs.

    Args:
        max_attempts: how often a job is tried; it may change at run time.
    """

    def start(session: Session, sweep: JobRow, run: SweepRunRow) -> JobRow:
        principal = Principal(sweep.project_id, ALL_SCOPES, admitted=True)
        body = _body(sweep.spec, run.settings, run.seed)
        job = steps.create(session, principal, JobKind.TRAIN, body, max_attempts())
        job.priority, job.created_by = sweep.priority, sweep.created_by
        job.meta = {**sweep.meta, "sweep": sweep.id, "trial": str(run.trial)}
        return job

    return start


def cancel(session: Session, principal: Principal, sweep_id: str) -> Sweep:
    """Ask a sweep to end for good, and its jobs with it."""
    return describe(session, jobs.cancel(session, principal, sweep_id, JobKind.SWEEP))


def list_page(
    session: Session, principal: Principal, after: str | None, limit: int, state: JobState | None
) -> Page[Sweep]:
    """One page of sweeps, newest first, without their trials."""
    rows, more = jobs.list_rows(session, principal, after=after, limit=limit, kind=JobKind.SWEEP, state=state)
    runs = repository.sweep_runs(session, [row.id for row in rows])
    return Page.of([_sweep(row, [r for r in runs if r.sweep_id == row.id], {}) for row in rows], more)


def describe(session: Session, row: JobRow) -> Sweep:
    """A sweep with its trials."""
    runs = repository.sweep_runs(session, [row.id])
    run_jobs = repository.jobs_by_id(session, {run.job_id for run in runs if run.job_id})
    sweep = _sweep(row, runs, run_jobs)
    sweep.trials = _trials(row, runs, run_jobs)
    return sweep


def _sweep(row: JobRow, runs: Sequence[SweepRunRow], run_jobs: Mapping[str, JobRow]) -> Sweep:
    ended = (row.result or {}).get("best")
    best = SweepBest.model_validate(ended) if ended else best_of(runs, run_jobs)
    return Sweep(
        id=row.id,
        state=JobState(row.state),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        best=best,
        progress=jobs.progress_of(row),
        error=jobs.error_of(row),
        metadata=row.meta,
        **{name: value for name, value in row.spec.items() if name in SHOWN_OF_SPEC},
    )


SHOWN_OF_SPEC = Sweep.model_fields.keys() & SweepCreate.model_fields.keys() - {"trials"}


def _trials(row: JobRow, runs: Sequence[SweepRunRow], run_jobs: Mapping[str, JobRow]) -> list[SweepTrial]:
    ended = transitions.is_final(row)
    order: list[int] = row.spec["seeds"]
    shown: dict[int, list[SweepRun]] = {}
    for run in sorted(runs, key=lambda run: order.index(run.seed)):
        shown.setdefault(run.trial, []).append(_run(run, run_jobs.get(run.job_id or ""), ended))
    results = [Result(n, run.seed, run.state, run.eval_loss) for n, own in shown.items() for run in own]
    settings = {run.trial: run.settings for run in runs}
    by_number = sorted(standings(results), key=lambda standing: standing.trial)
    return [_trial(standing, settings[standing.trial], shown[standing.trial]) for standing in by_number]


def _trial(standing: Standing, settings: Settings, runs: list[SweepRun]) -> SweepTrial:
    return SweepTrial(
        number=standing.trial,
        settings=settings,
        state=standing.state,
        finalist=standing.finalist,
        rank=standing.rank,
        eval_loss=standing.loss,
        std=standing.std,
        seeds_done=len(standing.losses),
        reason=runs[0].reason,
        error=next((run.error for run in runs if run.error), None),
        runs=runs,
    )


def _run(run: SweepRunRow, job: JobRow | None, ended: bool) -> SweepRun:
    skipped = ended and run.state == RunState.WAITING
    shown = SweepRun(
        seed=run.seed,
        state=RunState.SKIPPED if skipped else RunState(run.state),
        job_id=run.job_id,
        eval_loss=run.eval_loss,
        step=run.step,
        reason=run.reason,
        error=JobError.model_validate(run.error) if run.error else None,
    )
    if job is not None:
        shown.job_state, shown.progress = JobState(job.state), jobs.progress_of(job)
        shown.fine_tuned_model = (job.result or {}).get("model_id")
    return shown
