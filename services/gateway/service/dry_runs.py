"""What a fine-tuning job would do: its plan, what it will take, and everything in its way. Nothing is created."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy.orm import Session

from libs.common.errors import InvalidInput, JobFailure, PlatformError
from libs.common.models.store import ModelStore
from libs.common.training.estimates import (
    CHARACTERS_PER_TOKEN,
    SUPERVISED_SHARE,
    Compute,
    DataSize,
    Record,
    Spread,
    Work,
    memory_of,
    memory_spread,
    time_spread,
)
from libs.common.training.fitting import Fitted, fit
from libs.common.training.plan import DataFacts, MachineFacts, Plan, Planner
from model_training.config.errors import ConfigError
from model_training.config.machine import this_machine
from model_training.config.shapes import Shape, shape_of
from model_training.config.training_config import TrainingConfig
from model_training.contracts.comparisons import Prices
from model_training.contracts.dry_runs import DataFigures, DryRun, Estimate, Refusal
from model_training.contracts.files import FilePurpose, FileReport
from model_training.contracts.fine_tuning import FineTuningJobCreate
from services.gateway import repository
from services.gateway.domain import Principal
from services.gateway.service import files, fine_tuning, quotas

HISTORY = 20
"""Earlier jobs of the base that estimates look at."""
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True)
class Past:
    """What earlier jobs of a base say. `characters_per_token` and `supervised_share` are None without one."""

    records: tuple[Record, ...] = ()
    machine: dict[str, Any] | None = None
    characters_per_token: float | None = None
    supervised_share: float | None = None


def dry_run(session: Session, principal: Principal, request: FineTuningJobCreate, model_dir: Path) -> DryRun:
    """Everything that can be said of a job before it is created."""
    refusals: list[Refusal] = []
    config = _resolve(request, refusals)
    training = _check(refusals, lambda: _report(session, principal, request.training_file, "training_file"))
    validation = None
    if (file := request.validation_file) is not None:
        validation = _check(refusals, lambda: _report(session, principal, file, "validation_file"))
    _check(refusals, lambda: quotas.admit_job(session, principal))
    answer = DryRun(model=request.model, accepted=False)
    answer.refusals = refusals  # the list itself, not a copy: more may come
    if config is not None:
        if model_dir.is_dir():
            _check(refusals, lambda: ModelStore(model_dir).resolve(config.model_name), "model")
        answer.config = config.model_dump(mode="json")
        if training is not None and (request.validation_file is None or validation is not None):
            past = _past(session, principal, config.model_name)
            _estimate(answer, config, (training, validation), past, _shape(config, model_dir))
    answer.accepted = not answer.refusals
    return answer


def _check(refusals: list[Refusal], call: Callable[[], Any], param: str | None = None) -> Any:
    """What a call returns; None, and one more refusal, if it complains."""
    try:
        return call()
    except PlatformError as error:
        refusals.append(
            Refusal(code=error.code, message=error.detail, param=param or error.param, hint=error.hint)
        )
    except JobFailure as failure:
        error = failure.error
        refusals.append(Refusal(code=error.code, message=error.message, param=error.param, hint=error.hint))
    return None


def _report(session: Session, principal: Principal, file_id: str, param: str) -> FileReport:
    row = files.require(session, principal, file_id, FilePurpose.FINE_TUNE, param)
    return FileReport.model_validate(row.report)


def _resolve(request: FineTuningJobCreate, refusals: list[Refusal]) -> TrainingConfig | None:
    """The configuration; settings that break a rule are refused and left out, until the others can be judged as well."""
    while True:
        try:
            return fine_tuning.resolve(request)
        except InvalidInput as error:
            names = _refuse_settings(error, refusals)
            reduced = _without(request, names)
            if reduced is None:
                return None
            request = reduced


def _refuse_settings(error: InvalidInput, refusals: list[Refusal]) -> set[str]:
    """Add what a resolution complained about; returns the settings' names."""
    cause = error.__cause__
    if not isinstance(cause, ConfigError) or not cause.faults:
        refusals.append(Refusal(code=error.code, message=error.detail, param=error.param, hint=error.hint))
        return {(error.param or "").removeprefix("training.")}
    for fault in cause.faults:
        param = "model" if fault.field == "model_name" else fault.field
        refusals.append(Refusal(code=error.code, message=f"{fault}.", param=param, hint=fault.hint))
    return {fault.field for fault in cause.faults}


def _without(request: FineTuningJobCreate, names: set[str]) -> FineTuningJobCreate | None:
    """The request without some settings; None if it has none of them."""
    given = request.training or {}
    kept = {
        k: v
        for k, v in given.items()
        if TrainingConfig.also_known_as.get(k, k) not in names and k not in names
    }
    if len(kept) < len(given):
        return request.model_copy(update={"training": kept})
    if (request.hyperparameters or request.method) and "model_name" not in names:
        return request.model_copy(update={"hyperparameters": None, "method": None})
    return None


def _shape(config: TrainingConfig, model_dir: Path) -> Shape:
    """The shape of the prepared model, or that of the catalogue."""
    try:
        text = (model_dir / config.model_name / "config.json").read_text(encoding="utf-8")
        return Shape.from_config(json.loads(text))
    except (OSError, ValueError, KeyError):
        return shape_of(config.model)


def _past(session: Session, principal: Principal, base: str) -> Past:
    records: list[Record] = []
    characters = tokens = supervised = 0.0
    machine: dict[str, Any] | None = None
    for result, report in repository.finished_training(session, principal.project_id, base, HISTORY):
        took, metrics = result.get("took"), result.get("metrics", {})
        if not took or not metrics.get("tokens_per_s"):
            continue
        machine = machine or took["machine"]
        records.append(
            Record(
                work_tokens=took["work_tokens"],
                tokens_per_s=metrics["tokens_per_s"],
                duration_s=metrics["duration_s"],
                memory_bytes=metrics["peak_memory_bytes"],
                expected_memory_bytes=took["expected_memory_bytes"],
            )
        )
        if report:
            characters += report["characters"]
            tokens += result["data"]["train"]["tokens"] + result["data"]["validation"]["tokens"]
            supervised += (
                result["data"]["train"]["supervised_tokens"]
                + result["data"]["validation"]["supervised_tokens"]
            )
    if not tokens:
        return Past(tuple(records), machine)
    return Past(tuple(records), machine, characters / tokens, supervised / tokens)


def _estimate(
    answer: DryRun,
    config: TrainingConfig,
    reports: tuple[FileReport, FileReport | None],
    past: Past,
    shape: Shape,
) -> None:
    """Fill in plan and figures."""
    data = _data_size(config, *reports, past)
    facts, compute_of = _machine(past)
    planner = Planner(config, facts, DataFacts(data.train_rows, data.validation_rows))
    plan: Plan | None = _check(answer.refusals, planner.plan)
    if plan is None:
        return
    weights = max(shape.parameters, _stated(config, shape))
    fitted: Fitted | None = _check(answer.refusals, lambda: fit(plan, facts, config, shape, data, weights))
    plan = fitted.plan if fitted else plan
    compute = compute_of(plan)
    expected = memory_of(shape, weights, plan, config, data).total
    memory = memory_spread(expected, past.records)
    time = time_spread(Work.of(plan, data), shape, compute, data.supervised_share, past.records)
    hour = Prices().machine_hour_usd
    answer.effective = plan.effective
    answer.memory_bytes, answer.time_s = _as_estimate(memory), _as_estimate(time)
    answer.cost_usd = Estimate(
        expected=time.expected / 3600 * hour,
        low=time.low / 3600 * hour,
        high=time.high / 3600 * hour,
        basis=f"that time at ${hour:.2f} an hour of the machine",
    )
    measured = past.characters_per_token is not None
    per_token = past.characters_per_token or CHARACTERS_PER_TOKEN
    answer.data = DataFigures(
        rows=reports[0].rows,
        train_rows=data.train_rows,
        validation_rows=data.validation_rows,
        tokens=round(data.train_tokens),
        tokens_basis=f"{per_token:.1f} characters a token, {'as in earlier jobs' if measured else 'assumed'}",
        rows_per_step=plan.batch_size * plan.gradient_accumulation,
        steps=plan.steps,
    )
    _warn(answer, plan, memory)


def _stated(config: TrainingConfig, shape: Shape) -> int:
    """Weights that the catalogue states, if the shape is the catalogue's: some models have more than their text part."""
    return config.model.parameters if shape == shape_of(config.model) else 0


def _data_size(
    config: TrainingConfig, training: FileReport, validation: FileReport | None, past: Past
) -> DataSize:
    rows = min(training.rows, config.max_rows or training.rows)
    per_row = (
        training.characters / max(1, training.rows) / (past.characters_per_token or CHARACTERS_PER_TOKEN)
    )
    held_out = validation.rows if validation else round(rows * config.validation_fraction)
    train_rows = rows if validation else rows - held_out
    share = 1.0 if config.train_on == "everything" else (past.supervised_share or SUPERVISED_SHARE)
    row_tokens = min(per_row, float(config.max_length))
    return DataSize(
        train_rows=train_rows,
        validation_rows=held_out,
        train_tokens=train_rows * row_tokens,
        validation_tokens=held_out * row_tokens,
        supervised_share=share,
        longest=min(config.max_length, round(4 * row_tokens)),
    )


def _machine(past: Past) -> tuple[MachineFacts, Callable[[Plan], Compute]]:
    """The machine that the newest job of the base ran on, or this one."""
    if past.machine is not None:
        known = {field.name for field in fields(MachineFacts)}
        facts = MachineFacts(**{name: value for name, value in past.machine.items() if name in known})
        cores = past.machine["threads"]
    else:
        gpu = this_machine().nvidia_gpu
        memory = None if gpu else float(psutil.virtual_memory().total)
        facts = MachineFacts(gpu, gpu or _has_fast_bf16(), memory_bytes=memory)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return facts, lambda plan: Compute(plan.device, plan.precision, cores)


def _has_fast_bf16() -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return not BF16_FLAGS.isdisjoint(text.split())


def _warn(answer: DryRun, plan: Plan, memory: Spread) -> None:
    here = psutil.virtual_memory().total
    if plan.device == "cpu" and memory.expected > here:
        answer.warnings.append(
            f"About {memory.expected / 1e9:.1f} GB of memory are needed, and this machine has {here / 1e9:.1f} GB: "
            "the job would end out of memory unless the trainer has more."
        )
    if plan.patience:
        answer.warnings.append(
            f"Training may stop earlier: after {plan.patience} validations without a better loss."
        )


def _as_estimate(spread: Spread) -> Estimate:
    return Estimate(expected=spread.expected, low=spread.low, high=spread.high, basis=spread.basis)
