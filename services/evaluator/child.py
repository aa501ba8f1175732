"""The process that runs one evaluation: reads the items, asks the model through the gateway, grades, reports."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from libs.common.errors import InvalidInput, JobFailure, PlatformError
from libs.common.jobs.child import ChildContext, run_child
from model_training.contracts.evaluations import EvaluationCreate, EvaluationItem, TextCheck
from model_training.datasets.rows import TrainingRow, read_rows
from model_training.errors import UserError
from services.evaluator.adapters.gateway_http import GatewayModels
from services.evaluator.adapters.hf_evaluate import HubMetric
from services.evaluator.adapters.response_cache import ResponseCache
from services.evaluator.grading import Grader
from services.evaluator.likelihood import ReferencePerplexity
from services.evaluator.metrics import signatures
from services.evaluator.parts import items_of_part
from services.evaluator.portions import Portions, Shared
from services.evaluator.ports import ExtraMetric
from services.evaluator.prompts import ModelTraits, PromptBuilder
from services.evaluator.sandbox.pool import Sandbox
from services.evaluator.service import CONCURRENCY, Ask, Evaluation
from services.evaluator.settings import EvaluatorSettings
from services.evaluator.similarity import EmbeddingSimilarity
from services.evaluator.stopwatch import Stopwatch
from services.evaluator.suites import performance
from services.evaluator.suites.registry import find_suites, load_suite


def work(context: ChildContext) -> dict[str, Any]:
    """Run the evaluation that the worker prepared. Raises JobFailure where no item can be asked."""
    try:
        return _evaluate(context, EvaluatorSettings())  # pyright: ignore[reportCallIssue] (the environment fills it)
    except PlatformError as error:
        raise JobFailure.of(error) from error


def _evaluate(context: ChildContext, settings: EvaluatorSettings) -> dict[str, Any]:
    spec = context.spec
    request = EvaluationCreate.model_validate(spec["request"])
    items = _items(request, spec["files"], settings.suites_dir)
    traits = ModelTraits(**spec["traits"])
    prompts = PromptBuilder(request.prompt, traits, _examples(request, spec["files"]), seed=request.seed)
    token = settings.internal_token.get_secret_value()
    models = GatewayModels(
        settings.gateway_url,
        token,
        model=request.model,
        project=spec["project"],
        threads=CONCURRENCY,
    )
    with Sandbox(
        slots=settings.grade_slots, limits=settings.limits, allow_unisolated=settings.grade_unisolated
    ) as sandbox:
        isolation = sandbox.require_isolation()
        level = "info" if isolation.is_enough else "warn"
        context.event(f"Answers are run in isolation: {isolation.text}.", level=level)
        watch = Stopwatch(context, context.workdir / "elapsed_s")
        fingerprint = None if request.fresh else spec.get("fingerprint")
        with _cached(models, fingerprint, settings) as ask:
            evaluation = Evaluation(
                ask,
                Grader(sandbox),
                prompts,
                watch,
                samples=request.samples,
                seed=request.seed,
                metrics=[_metric(name, models, settings) for name in dict.fromkeys(request.metrics)],
            )
            size = settings.evaluation_shard_items
            evaluation.run(items, set(spec["done"]), _portions(context, request, len(items), size, sandbox))
        documented = sorted(sandbox.documented)
    models.close()
    return {
        "model": request.model,
        "prompt_description": prompts.describe(items),
        "shots": prompts.shots,
        "isolation": isolation.text,
        "isolation_level": isolation.level,
        "documentation_in_reach": documented,
        "metric_signatures": signatures() if any(isinstance(item.check, TextCheck) for item in items) else {},
        "duration_s": watch.elapsed_s,
    }


def _metric(name: str, models: GatewayModels, settings: EvaluatorSettings) -> ExtraMetric:
    if name == EmbeddingSimilarity.name:
        return EmbeddingSimilarity(partial(models.embed, settings.similarity_model))
    if name == ReferencePerplexity.name:
        return ReferencePerplexity(models.log_probabilities)
    return HubMetric(name, settings.metrics_dir, settings.metrics_from_hub)


def _portions(
    context: ChildContext, request: EvaluationCreate, items: int, size: int, sandbox: Sandbox
) -> Portions | None:
    """Shards of an evaluation that is long enough to be worth the others' help; None for the whole.

    One that measures time is done by one worker: more of them would load the model more than was asked for.
    """
    count = items * request.samples
    is_timed = request.fresh or any(suite.name == performance.NAME for suite in request.suites)
    if not context.spec["is_shared"]:
        if size == 0 or count <= size or is_timed:
            return None
        Shared.plan(context, count, size)
    is_helper = context.spec.get("is_helper", False)
    return Shared(context, is_helper=is_helper, account=lambda: {"in_reach": sorted(sandbox.documented)})


@contextmanager
def _cached(models: GatewayModels, fingerprint: str | None, settings: EvaluatorSettings) -> Generator[Ask]:
    if fingerprint is None or not settings.response_cache:
        yield models.ask
        return
    cache = ResponseCache(settings.home / "cache" / "responses.sqlite", fingerprint, models.ask)
    try:
        yield cache.ask
    finally:
        cache.close()


def _items(request: EvaluationCreate, files: dict[str, str], folder: Path | None) -> list[EvaluationItem]:
    known = find_suites(folder)
    items: list[EvaluationItem] = []
    seen: set[str] = set()
    for suite in request.suites:
        path = Path(files[suite.file]) if suite.file is not None else None
        for item in load_suite(suite, path, known):
            if item.id in seen:
                raise InvalidInput(
                    f"The item {item.id!r} stands in two suites.",
                    param="suites",
                    hint="Name each suite once.",
                )
            seen.add(item.id)
            items.append(item)
    return items if request.part is None else items_of_part(items, request.part, request.seed)


def _examples(request: EvaluationCreate, files: dict[str, str]) -> list[TrainingRow]:
    name = request.prompt.examples_file
    if name is None or request.prompt.shots == 0:
        return []
    try:
        return list(read_rows(Path(files[name])))
    except UserError as error:
        raise InvalidInput(str(error), param="prompt.examples_file") from error


if __name__ == "__main__":
    run_child(work)
