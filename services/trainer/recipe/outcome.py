"""What there is to say about a finished run: metrics, lineage, the job's result, and what later estimates stand on."""

from __future__ import annotations

import json
import math
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from libs.common.models.prompting import PromptTemplate
from libs.common.training.estimates import DataSize, Work
from libs.common.training.plan import Plan
from model_training.config.shapes import Shape
from services.trainer.domain import TrainOrder
from services.trainer.recipe.artifact import Outcome
from services.trainer.recipe.encode import EncodedRows
from services.trainer.recipe.machine import peak_memory_bytes
from services.trainer.recipe.trainer import AnswerTrainer

LAST_LOSSES = 10
"""Reports whose mean is the training loss of a job."""
VALIDATED = ("eval_perplexity", "eval_token_accuracy", "eval_exact_match", "eval_parses", "eval_pass_rate")
"""What is said of the best step besides its loss."""
LIBRARIES = ("torch", "transformers", "peft", "accelerate")


def read_shape(base: Path) -> Shape:
    """The widths of a prepared model."""
    return Shape.from_config(json.loads((base / "config.json").read_text(encoding="utf-8")))


def data_size(train: EncodedRows, validation: EncodedRows) -> DataSize:
    """Encoded rows as the estimates count them."""
    tokens = [sum(len(example.ids) for example in rows.examples) for rows in (train, validation)]
    share = train.supervised_tokens / max(1, tokens[0])
    longest = max(train.longest, validation.longest)
    return DataSize(len(train.examples), len(validation.examples), tokens[0], tokens[1], share, longest)


def metrics(trainer: AnswerTrainer, plan: Plan, elapsed_s: float) -> dict[str, float]:
    """Figures of the whole job, earlier attempts included."""
    history = trainer.state.log_history
    losses = [line["loss"] for line in history if "loss" in line][-LAST_LOSSES:]
    counters = trainer.counters
    found = {
        "train_loss": sum(losses) / max(len(losses), 1),
        "tokens": float(counters.tokens),
        "supervised_tokens": float(counters.supervised_tokens),
        "tokens_per_s": counters.tokens / max(counters.seconds, 1e-9),
        "supervised_tokens_per_s": counters.supervised_tokens / max(counters.seconds, 1e-9),
        "padding_share": 1 - counters.tokens / max(counters.computed_tokens, counters.tokens, 1),
        "duration_s": elapsed_s,
        "peak_memory_bytes": float(peak_memory_bytes(plan.device)),
    }
    return found | _validated(trainer)


def _validated(trainer: AnswerTrainer) -> dict[str, float]:
    """Validation before training and at the step whose adapter is kept."""
    if (before := trainer.counters.loss_before) is None:
        return {}
    found = {"eval_loss_before": before, "eval_perplexity_before": math.exp(min(before, 700.0))}
    lines = [line for line in trainer.state.log_history if "eval_loss" in line]
    kept = next((line for line in lines if line["step"] == best_step(trainer)), lines[-1] if lines else {})
    return found | {name: kept[name] for name in ("eval_loss", *VALIDATED) if name in kept}


def lineage(
    order: TrainOrder, template: PromptTemplate, job_id: str, trainer: AnswerTrainer
) -> dict[str, Any]:
    """Where an adapter comes from."""
    return {
        "base": order.model,
        "base_licence": order.licence,
        "template": "own" if template.own else order.template,
        "method": order.config.get("method", "lora"),
        "job_id": job_id,
        "suffix": order.suffix,
        "training_file": _file(order.training),
        "validation_file": order.validation and _file(order.validation),
        "seed": trainer.args.seed,
        "best_step": best_step(trainer),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    }


def result(trainer: AnswerTrainer, plan: Plan, done: Outcome) -> dict[str, Any]:
    """What the job's worker is told."""
    state = trainer.state
    return {
        "metrics": done.metrics,
        "trained_tokens": trainer.counters.tokens,
        "steps": state.global_step,
        "best_step": best_step(trainer),
        "early_stopped": state.global_step < plan.steps,
        "effective": [setting.model_dump(mode="json") for setting in plan.effective],
        "data": done.data,
        "lineage": done.lineage,
    }


def took(
    trainer: AnswerTrainer, done: Outcome, machine: dict[str, Any], expected_memory: float
) -> dict[str, Any]:
    """What the estimates of later jobs stand on; see `libs.common.training.estimates.Record`."""
    validations = 1 + sum("eval_loss" in line for line in done.history)
    work = Work(trainer.counters.tokens, validations * done.data["validation"]["tokens"], len(done.history))
    return {"work_tokens": work.weighted, "expected_memory_bytes": expected_memory, "machine": machine}


def best_step(trainer: AnswerTrainer) -> int:
    """The step whose adapter is kept; the last one where nothing was validated."""
    return trainer.state.best_global_step or trainer.state.global_step


def free(trainer: AnswerTrainer) -> None:
    """Let go of the model in training, whose place the one that is served takes."""
    for name in ("model", "model_wrapped", "optimizer", "lr_scheduler"):
        setattr(trainer, name, None)
    trainer.callback_handler.model = trainer.callback_handler.optimizer = None
    trainer.accelerator.free_memory()


def _file(file: Any) -> dict[str, str]:
    return {"id": file.id, "name": file.name, "sha256": file.sha256}
