"""Puts a comparison's findings and facts together to the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from model_training.config.catalogue import find_model
from model_training.contracts.comparisons import ComparisonCreate, ComparisonReport, Look, MissingArm, Upkeep
from model_training.contracts.judges import JudgeReport
from services.comparator.domain.analysis import Analysis
from services.comparator.domain.arms import RAG_PREFIX, Arm
from services.comparator.domain.costs import cost_usd
from services.comparator.domain.deployment import deployment
from services.comparator.domain.profiles import pareto
from services.comparator.domain.results import PRIMARY
from services.comparator.domain.upkeep import IndexVersion
from services.comparator.ports import Platform


def compose(
    comparison_id: str,
    request: ComparisonCreate,
    analysis: Analysis,
    arms: Sequence[Arm],
    *,
    training: dict[str, Any],
    environment: dict[str, Any],
    looks: Sequence[Look] = (),
    missing: Sequence[MissingArm] = (),
    judge: JudgeReport | None = None,
    upkeep: Sequence[Upkeep] = (),
    order: Sequence[Sequence[str]] = (),
) -> ComparisonReport:
    """The whole report, as `report.json` holds it."""
    return ComparisonReport(
        id=comparison_id,
        created_at=datetime.now(UTC),
        arms=analysis.arms,
        pairs=analysis.pairs,
        verdict=analysis.verdict,
        dataset=request.dataset or {},
        training=training,
        model=_model_facts(arms),
        prompts={arm.name: _prompt_facts(arm, analysis) for arm in arms},
        environment=environment | {"machine_hour_usd": request.prices.machine_hour_usd},
        break_even=analysis.break_even,
        dimensions=analysis.dimensions,
        kinds=analysis.kinds,
        profiles=analysis.profiles,
        pareto=pareto(analysis.arms),
        findings=analysis.findings,
        deployment=deployment(analysis.arms, analysis.verdict, analysis.kinds),
        leaked=analysis.leaked,
        bounds=analysis.bounds,
        retrieval=analysis.retrieval,
        looks=list(looks),
        missing=list(missing),
        judge=judge,
        upkeep=list(upkeep),
        rules={
            "primary_metric": PRIMARY,
            "alpha": request.alpha,
            "smallest_useful_difference": request.smallest_useful_difference,
            "seed": request.seed,
            "prices": request.prices.model_dump(mode="json"),
            "own_prices": {arm.name: arm.prices.model_dump(mode="json") for arm in arms if arm.prices},
            "order": [list(block) for block in order],
        },
    )


def _prompt_facts(arm: Arm, analysis: Analysis) -> dict[str, Any]:
    """How the arm was asked, and the first prompt of each suite as the model read it."""
    examples: dict[str, str] = {}
    for item in analysis.items:
        if arm.name in item.answers:
            examples.setdefault(item.suite, item.answers[arm.name].prompt)
    return {"description": arm.prompt_description or "the question alone", "examples": examples}


def _model_facts(arms: Sequence[Arm]) -> dict[str, Any]:
    """Each arm's model; for models of the catalogue what is known of them."""
    catalogue: dict[str, Any] = {}
    for arm in arms:
        name = arm.model.partition("@")[2] if arm.model.startswith(RAG_PREFIX) else arm.model
        entry = find_model(name)
        if entry is not None:
            known = asdict(entry)
            catalogue[entry.name] = {
                key: known[key] for key in ("hub_id", "parameters", "context_length", "licence", "instructed")
            }
    return {"arms": {arm.name: arm.model for arm in arms}, "catalogue": catalogue}


def index_versions(platform: Platform, request: ComparisonCreate) -> dict[str, list[IndexVersion]]:
    """By index, as the arms name it: its versions. An index of which nothing is known any more is left out."""
    names = {
        arm.model.removeprefix(RAG_PREFIX).partition("@")[0]
        for arm in request.arms
        if arm.model.startswith(RAG_PREFIX)
    }
    found = {name: platform.index_versions(name) for name in sorted(names)}
    return {name: versions for name, versions in found.items() if versions}


def training_facts(platform: Platform, request: ComparisonCreate) -> dict[str, Any]:
    """What the training job was, took and cost, with its losses; empty without a training job.

    Raises:
        JobFailure: there is no such job, or the platform cannot be reached.
    """
    if request.training_job is None:
        return {}
    tuning = platform.training(request.training_job)
    job = platform.job(request.training_job)
    began, ended = job.started_at, job.finished_at
    seconds = (ended - began).total_seconds() if began and ended else None
    return {
        "job": tuning.id,
        "state": tuning.status.value,
        "base": tuning.model,
        "model": tuning.fine_tuned_model,
        "seconds": seconds,
        "cost_usd": None if seconds is None else cost_usd(seconds, request.prices),
        "trained_tokens": tuning.trained_tokens,
        "best_step": tuning.best_step,
        "early_stopped": tuning.early_stopped,
        "metrics": tuning.metrics,
        "effective": [setting.model_dump(mode="json") for setting in tuning.effective],
        "losses": [{"step": point.step, **point.values} for point in platform.metrics(request.training_job)],
    }
