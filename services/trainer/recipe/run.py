"""One training job from order to artifact directory."""

from __future__ import annotations

import json
import platform
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
import trl

from libs.common.errors import JobFailure, PlatformError
from libs.common.models.prompting import PromptTemplate, load_template
from libs.common.training.estimates import DataSize, Work, memory_bytes
from libs.common.training.plan import DataFacts, MachineFacts, Plan, Planner
from model_training.config.errors import ConfigError
from model_training.config.shapes import Shape
from model_training.config.training_config import TrainingConfig
from services.trainer.domain import TrainOrder
from services.trainer.recipe import artifact, checkpoints
from services.trainer.recipe.base import load_base, load_tokenizer, machine_facts, use_threads
from services.trainer.recipe.encode import EncodedRows, encode_rows, load_split, require_supervision
from services.trainer.recipe.fingerprint import fingerprint_ids, take_fingerprint
from services.trainer.recipe.proofs import Proofs
from services.trainer.recipe.reporting import Context, Points, Reporter, tell_again
from services.trainer.recipe.resuming import BestIsWhole, choose_best, resume_point
from services.trainer.recipe.trainer import AnswerTrainer, Counters

LAST_LOSSES = 10
"""Reports whose mean is the training loss of a job."""


class TrainingRun:
    """One attempt at a job. `run` does it; what it commits on the way survives it."""

    def __init__(self, context: Context, order: TrainOrder, started: float) -> None:
        self._context = context
        self._order = order
        self._started = started
        self._config = _config(order)
        self._checkpoints = context.workdir / "checkpoints"
        self._resume: checkpoints.Found | None = None
        self._counters = Counters()
        self._points: Points = {}
        self._earlier_s = 0.0
        self._machine = MachineFacts(cuda=False, fast_bf16=False)
        self._threads = 1
        self._expected_memory = 0.0

    def run(self) -> dict[str, Any]:
        """Train, choose the best checkpoint, write the artifact.

        Returns:
            The job's result, with `directory` in place of the artifact's id.

        Raises:
            JobFailure: the data, the settings or the training are at fault.
            JobStopped: a pause or a cancel was honoured.
        """
        threads = use_threads()
        transformers.set_seed(self._config.seed)
        self._look_back()
        template, tokenizer = load_template(self._order.template, self._path), load_tokenizer(self._path)
        train, validation = self._encode(tokenizer, template)
        self._context.check_stop()
        plan = self._plan(train, validation, threads)
        trainer = self._trainer(load_base(self._path, plan), tokenizer, train, validation, plan)
        self._measure_base(trainer, validation)
        self._train(trainer)
        return self._finish(trainer, plan, (train, validation), template)

    @property
    def _path(self) -> Path:
        return Path(self._order.model_path)

    def _look_back(self) -> None:
        """Find where earlier attempts got to, and take their counters over."""
        self._resume = resume_point(self._context, self._checkpoints)
        if self._resume is not None and self._resume.marker is not None:
            self._counters = Counters(**self._resume.marker.progress)
            self._points = tell_again(self._context, self._resume.path)
        self._earlier_s = self._counters.elapsed_s

    def _introduce(self, message: str, *, type: str = "message", **more: Any) -> None:
        """An event that an attempt which goes on does not repeat."""
        if self._resume is None:
            self._context.event(message, type=type, **more)

    def _encode(self, tokenizer: Any, template: PromptTemplate) -> tuple[EncodedRows, EncodedRows]:
        split = load_split(self._config, self._order.training, self._order.validation)
        train = encode_rows(split.train, tokenizer, template, self._config)
        require_supervision(train, self._config)
        validation = encode_rows(split.validation, tokenizer, template, self._config)
        data = {"train": train.summary(), "validation": validation.summary()}
        self._introduce(
            f"{len(train.examples)} rows to train on, {len(validation.examples)} to validate on, "
            f"{train.supervised_tokens} learnt tokens a pass.",
            type="data",
            data=data,
        )
        if train.dropped or train.truncated:
            self._introduce(
                f"Of the training rows above {self._config.max_length} tokens, {len(train.dropped)} were left out "
                f"and {len(train.truncated)} cut.",
                level="warn",
                data=data["train"],
            )
        return train, validation

    def _plan(self, train: EncodedRows, validation: EncodedRows, threads: int) -> Plan:
        facts = DataFacts(len(train.examples), len(validation.examples))
        self._machine = machine_facts()
        self._threads = threads
        plan = Planner(self._config, self._machine, facts).plan()
        self._expected_memory = expected_memory(self._path, plan, self._config, train, validation)
        self._introduce(
            f"{plan.steps} steps of {plan.batch_size * plan.gradient_accumulation} rows on {plan.device} "
            f"in {plan.precision}, {threads} threads; about {self._expected_memory / 1e9:.1f} GB of memory.",
            type="plan",
            data={
                "effective": [setting.model_dump(mode="json") for setting in plan.effective],
                "expected_memory_bytes": self._expected_memory,
            },
        )
        return plan

    def _trainer(
        self, model: Any, tokenizer: Any, train: EncodedRows, validation: EncodedRows, plan: Plan
    ) -> AnswerTrainer:
        reporter = Reporter(
            self._context,
            self._counters,
            self._checkpoints,
            keep=self._config.keep_checkpoints,
            started=self._started,
            metrics=self._resume.marker.metrics if self._resume and self._resume.marker else {},
            points=self._points,
        )
        return AnswerTrainer(
            model,
            tokenizer,
            train.examples,
            config=self._config,
            plan=plan,
            output_dir=checkpoints.attempt_directory(self._checkpoints, self._context.fence),
            validation=validation.examples,
            callbacks=[Proofs(), BestIsWhole(self._context, self._checkpoints), reporter],
            counters=self._counters,
        )

    def _measure_base(self, trainer: AnswerTrainer, validation: EncodedRows) -> None:
        """Validation loss of the untouched base: a fresh adapter adds nothing."""
        if validation.examples and self._resume is None:
            before = self._counters.loss_before = trainer.validation_loss()
            self._context.event(f"Validation loss {before:.4f} before training.", data={"eval_loss": before})

    def _train(self, trainer: AnswerTrainer) -> None:
        if self._resume is None:
            trainer.train()
        elif self._counters.ended:
            trainer.take_up(self._resume.path)
            choose_best(self._context, self._checkpoints, trainer.state)
            trainer.load_best()
        else:
            trainer.train(resume_from_checkpoint=str(self._resume.path))

    def _finish(
        self,
        trainer: AnswerTrainer,
        plan: Plan,
        encoded: tuple[EncodedRows, EncodedRows],
        template: PromptTemplate,
    ) -> dict[str, Any]:
        self._context.progress(trainer.state.global_step, trainer.state.max_steps, "writing the adapter")
        train, validation = encoded
        directory = artifact.fresh_directory(self._context.workdir)
        artifact.write_adapter(trainer.model, self._order, directory)
        texts = fingerprint_ids(trainer.processing_class, template, train.examples)
        fingerprint = take_fingerprint(trainer.model, texts)
        if fingerprint.max_change == 0.0:
            raise JobFailure(
                "outputs_unchanged",
                "The trained adapter changes no log-probability of any text that it was measured on.",
                hint="Raise learning_rate, epochs or lora_r.",
            )
        metrics = self._metrics(trainer) | {
            "fingerprint_mean_change": fingerprint.mean_change,
            "fingerprint_max_change": fingerprint.max_change,
        }
        outcome = artifact.Outcome(
            metrics=metrics,
            data={"train": train.summary(), "validation": validation.summary()},
            history=[line for line in trainer.state.log_history if "loss" in line or "eval_loss" in line],
            lineage=self._lineage(trainer),
        )
        artifact.write_documents(directory, self._order, plan, outcome, fingerprint)
        return self._result(
            trainer, plan, outcome, artifact.publish(directory, self._context.workdir / "artifact")
        )

    def _metrics(self, trainer: AnswerTrainer) -> dict[str, float]:
        history = trainer.state.log_history
        losses = [line["loss"] for line in history if "loss" in line][-LAST_LOSSES:]
        counters = self._counters
        metrics = {
            "train_loss": sum(losses) / max(len(losses), 1),
            "tokens": float(counters.tokens),
            "supervised_tokens": float(counters.supervised_tokens),
            "tokens_per_s": counters.tokens / max(counters.seconds, 1e-9),
            "duration_s": self._earlier_s + time.monotonic() - self._started,
            "peak_memory_bytes": float(peak_memory_bytes()),
        }
        if (before := counters.loss_before) is not None:
            best = trainer.state.best_metric
            last = next((line["eval_loss"] for line in reversed(history) if "eval_loss" in line), None)
            metrics["eval_loss_before"] = before
            metrics |= {"eval_loss": best if best is not None else last} if last is not None else {}
        return metrics

    def _lineage(self, trainer: AnswerTrainer) -> dict[str, Any]:
        order = self._order
        return {
            "base": order.model,
            "base_licence": order.licence,
            "template": order.template,
            "job_id": self._context.job_id,
            "suffix": order.suffix,
            "training_file": {
                "id": order.training.id,
                "name": order.training.name,
                "sha256": order.training.sha256,
            },
            "validation_file": order.validation
            and {"id": order.validation.id, "name": order.validation.name, "sha256": order.validation.sha256},
            "seed": self._config.seed,
            "best_step": best_step(trainer),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "peft": peft.__version__,
                "trl": trl.__version__,
            },
        }

    def _result(
        self, trainer: AnswerTrainer, plan: Plan, outcome: artifact.Outcome, directory: Path
    ) -> dict[str, Any]:
        state = trainer.state
        return {
            "directory": str(directory),
            "metrics": outcome.metrics,
            "trained_tokens": self._counters.tokens,
            "steps": state.global_step,
            "best_step": best_step(trainer),
            "early_stopped": state.global_step < plan.steps,
            "effective": [setting.model_dump(mode="json") for setting in plan.effective],
            "data": outcome.data,
            "took": self._took(outcome),
            "lineage": outcome.lineage,
        }

    def _took(self, outcome: artifact.Outcome) -> dict[str, Any]:
        """What the estimates of later jobs stand on; see `libs.common.training.estimates.Record`."""
        validations = 1 + sum("eval_loss" in line for line in outcome.history)
        tokens = outcome.data["validation"]["tokens"]
        work = Work(self._counters.tokens, validations * tokens, len(outcome.history))
        return {
            "work_tokens": work.weighted,
            "expected_memory_bytes": self._expected_memory,
            "machine": {**asdict(self._machine), "threads": self._threads},
        }


def expected_memory(
    base: Path, plan: Plan, config: TrainingConfig, train: EncodedRows, validation: EncodedRows
) -> float:
    """Bytes that this attempt will probably hold at most, by the arithmetic of the dry run."""
    shape = Shape.from_config(json.loads((base / "config.json").read_text(encoding="utf-8")))
    tokens = [sum(len(example.ids) for example in rows.examples) for rows in (train, validation)]
    share = train.supervised_tokens / max(1, tokens[0])
    longest = max(train.longest, validation.longest)
    size = DataSize(len(train.examples), len(validation.examples), tokens[0], tokens[1], share, longest)
    return memory_bytes(shape, shape.parameters, plan, config, size)


def best_step(trainer: AnswerTrainer) -> int:
    """The step whose adapter is kept; the last one where nothing was validated."""
    return trainer.state.best_global_step or trainer.state.global_step


def peak_memory_bytes() -> int:
    """The most memory that this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # `getrusage` counts what the parent held when it started us, too
        line = next(
            line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")
        )
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _config(order: TrainOrder) -> TrainingConfig:
    try:
        return TrainingConfig(**{**order.config, "seed": order.seed})
    except ConfigError as error:
        raise JobFailure(
            "invalid_config", error.message, blame="user", param="training", hint=error.hint
        ) from error


def train(context: Context, order: TrainOrder, started: float | None = None) -> dict[str, Any]:
    """Do one attempt at a training job that began when the monotonic clock was at `started`; see `TrainingRun.run`."""
    try:
        return TrainingRun(context, order, time.monotonic() if started is None else started).run()
    except PlatformError as error:
        raise JobFailure.of(error) from error
