"""One training job from order to artifact directory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from libs.common.errors import JobFailure, PlatformError
from libs.common.models.prompting import PromptTemplate, load_template
from libs.common.training.fitting import fit
from libs.common.training.plan import DataFacts, MachineFacts, Plan, Planner
from model_training.config.errors import ConfigError
from model_training.config.training_config import TrainingConfig
from model_training.contracts.evaluations import EvaluationItem
from services.trainer.domain import TrainOrder
from services.trainer.grading import Grade, NotGraded
from services.trainer.recipe import artifact, checkpoints, outcome
from services.trainer.recipe.adapter import check_patterns
from services.trainer.recipe.backends import prepare
from services.trainer.recipe.base import load_tokenizer
from services.trainer.recipe.disk import whole_or_nothing
from services.trainer.recipe.encode import EncodedRows, encode_rows, load_split, require_supervision
from services.trainer.recipe.export import applied_setting, export
from services.trainer.recipe.fingerprint import fingerprint_ids, take_fingerprint
from services.trainer.recipe.generation import Sample, in_words
from services.trainer.recipe.machine import machine_facts, use_threads
from services.trainer.recipe.memory import ran_out
from services.trainer.recipe.packing import check_packing
from services.trainer.recipe.proofs import Proofs
from services.trainer.recipe.reporting import Context, Points, Reporter, tell_again
from services.trainer.recipe.resuming import BestIsWhole, choose_best, resume_point
from services.trainer.recipe.stopping import Divergence, diverged
from services.trainer.recipe.team import ALONE, Team, join
from services.trainer.recipe.team_context import TeamContext
from services.trainer.recipe.trainer import AnswerTrainer, Counters

ROLLED_BACK = 0.5
"""What a job that diverged multiplies its learning rate by."""
HARDEST_ROWS = 20
"""Rows that a job names as those it has learnt worst."""


class TrainingRun:
    """One attempt at a job. `run` does it; what it commits on the way survives it."""

    def __init__(
        self,
        context: Context,
        order: TrainOrder,
        started: float,
        team: Team = ALONE,
        grade: Grade | None = None,
    ) -> None:
        self._context = context
        self._team = team
        self._grade = grade
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
            The job's result, with `directory` in place of the artifact's id. Nothing, in processes that follow.

        Raises:
            JobFailure: the data, the settings or the training are at fault.
            JobStopped: a pause or a cancel was honoured.
        """
        threads = use_threads()
        with self._team.leader_first():
            self._look_back()
        template, tokenizer = load_template(self._order.template, self._path), load_tokenizer(self._path)
        train, validation = self._encode(tokenizer, template)
        self._context.check_stop()
        plan = self._plan(train, validation, threads)
        rows = (train, validation)
        trainer = self._trainer(tokenizer, rows, plan)
        self._measure_base(trainer, validation)
        while not self._trained(trainer):
            del trainer  # two models at once may not fit
            trainer = self._trainer(tokenizer, rows, plan)
        return self._finish(trainer, plan, rows, template)

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
        self._machine = self._share_of_memory(machine_facts())
        self._threads = threads
        size = outcome.data_size(train, validation)
        shape = outcome.read_shape(self._path)
        fitted = fit(
            Planner(self._config, self._machine, facts).plan(), self._machine, self._config, shape, size
        )
        plan = fitted.plan
        self._expected_memory = fitted.memory.total
        self._introduce(
            f"{plan.steps} steps of {plan.batch_size * plan.gradient_accumulation} rows on {plan.device} "
            f"in {plan.precision}, {threads} threads; about {fitted.memory.total / 1e9:.1f} GB of memory.",
            type="plan",
            data={
                "effective": [setting.model_dump(mode="json") for setting in plan.effective],
                "expected_memory_bytes": fitted.memory.total,
                "expected_memory": fitted.memory.parts,
            },
        )
        return plan

    def _share_of_memory(self, facts: MachineFacts) -> MachineFacts:
        """What the plan may count on: on a CPU the processes share the machine's memory; each has a GPU of its own, and a
        model in shares is held by all of them together."""
        if facts.memory_bytes is None:
            return facts
        many = self._team.size if self._team.is_sharded else 1
        few = 1 if facts.cuda else self._team.local_size
        return replace(facts, memory_bytes=facts.memory_bytes * many / few)

    def _trainer(self, tokenizer: Any, rows: tuple[EncodedRows, EncodedRows], plan: Plan) -> AnswerTrainer:
        transformers.set_seed(self._config.seed)
        model = prepare(self._path, plan, self._config)
        if self._config.method == "lora":
            check_patterns(model, self._config)
        marker = self._resume.marker if self._resume else None
        reporter = Reporter(
            self._context,
            self._counters,
            self._checkpoints,
            keep=self._config.keep_checkpoints,
            started=self._started,
            metrics=marker.metrics if marker else {},
            points=self._points,
            leads=self._team.leads,
        )
        guards = [Proofs(), Divergence(), BestIsWhole(self._context, self._checkpoints)]
        train, validation = rows
        trainer = AnswerTrainer(
            model,
            tokenizer,
            train.examples,
            config=self._config,
            plan=plan,
            output_dir=checkpoints.attempt_directory(self._checkpoints, self._context.fence),
            validation=validation.examples,
            callbacks=[*guards, reporter],
            counters=self._counters,
            tell_halving=self._tell_halving,
            show_samples=self._show_samples,
            pass_rate=self._pass_rate,
            team=self._team,
        )
        if plan.packing:
            data = check_packing(trainer, train.examples, plan)
            self._introduce(data.sentence, type="packing", data=data.to_dict())
        return trainer

    def _tell_halving(self, before: int, after: int) -> None:
        self._context.event(
            f"Memory ran out: passes of at most {after} tokens in place of {before}. The step is computed again with the "
            "same rows.",
            type="memory",
            level="warn",
            data={"pass_tokens": after, "pass_tokens_before": before},
        )

    def _show_samples(self, step: int, samples: Sequence[Sample]) -> None:
        data = {"step": step, "samples": [asdict(sample) for sample in samples]}
        self._context.event(f"{len(samples)} sample answers at step {step}.", type="samples", data=data)

    def _pass_rate(self, answers: Sequence[tuple[EvaluationItem, str]]) -> float | None:
        """The share of answers that pass their rows' checks; None, told once, where nobody can try them."""
        if self._grade is None:
            return None
        try:
            passed = self._grade(answers)
        except NotGraded as error:
            self._grade = None
            self._context.event(f"The pass rate is not measured. {error}", level="warn")
            return None
        return sum(passed) / len(passed)

    def _measure_base(self, trainer: AnswerTrainer, validation: EncodedRows) -> None:
        """Validation loss of the untouched base: a fresh adapter adds nothing."""
        if validation.examples and self._resume is None:
            metrics = trainer.validate()
            before = self._counters.loss_before = metrics["eval_loss"]
            self._context.event(
                f"Validation loss {before:.4f} before training{in_words(metrics)}.", data=metrics
            )

    def _trained(self, trainer: AnswerTrainer) -> bool:
        """Train to the end; False if training diverged and a new trainer must go on from where it was rolled back to."""
        try:
            self._train(trainer)
        except JobFailure as failure:
            self._roll_back(failure)
            return False
        return True

    def _train(self, trainer: AnswerTrainer) -> None:
        if self._resume is None:
            trainer.train()
        elif self._counters.ended:
            trainer.take_up(self._resume.path)
            choose_best(self._context, self._checkpoints, trainer.state)
            trainer.load_best()
        else:
            trainer.train(resume_from_checkpoint=str(self._resume.path))

    def _roll_back(self, failure: JobFailure) -> None:
        """Go back to the newest checkpoint, or to the beginning, with half the learning rate; once in a job's life.

        Raises:
            JobFailure: the given one, if it is another failure or training has diverged before.
        """
        if failure.error.code != "diverged":
            raise failure
        if self._counters.lr_scale < 1.0:
            what = failure.error.message.removeprefix("Training diverged: ").removesuffix(".")
            raise diverged(f"{what}, and so it did at twice this learning rate") from failure
        loss_before = self._counters.loss_before
        self._resume = checkpoints.newest(self._checkpoints)
        self._counters = Counters(loss_before=loss_before)
        if self._resume is not None and self._resume.marker is not None:
            self._counters = Counters(**self._resume.marker.progress)
        self._counters.lr_scale = ROLLED_BACK
        rate = self._config.learning_rate * ROLLED_BACK
        step = self._resume.step if self._resume else 0
        self._context.event(
            f"{failure.error.message} Going back to step {step} with a learning rate of {rate:g}.",
            type="rollback",
            level="warn",
            data={"step": step, "learning_rate": rate},
        )

    def _finish(
        self,
        trainer: AnswerTrainer,
        plan: Plan,
        encoded: tuple[EncodedRows, EncodedRows],
        template: PromptTemplate,
    ) -> dict[str, Any]:
        weights = trainer.accelerator.get_state_dict(trainer.model) if self._team.is_sharded else None
        if not self._team.leads:
            return {}
        self._context.progress(trainer.state.global_step, trainer.state.max_steps, "writing the artifact")
        directory = artifact.fresh_directory(self._context.workdir)
        with whole_or_nothing(directory, "the artifact"):
            artifact.write_trained(trainer.model, self._order, template, directory, weights)
            return self._write(directory, trainer, plan, encoded, template)

    def _write(
        self,
        directory: Path,
        trainer: AnswerTrainer,
        plan: Plan,
        encoded: tuple[EncodedRows, EncodedRows],
        template: PromptTemplate,
    ) -> dict[str, Any]:
        """Fill the directory that holds the adapter, and give it its name; returns the job's result."""
        train, validation = encoded
        texts = fingerprint_ids(trainer.processing_class, template, train.examples)
        outcome.free(trainer)
        fingerprint = take_fingerprint(self._path, directory, texts, plan.device)
        if fingerprint.max_change == 0.0:
            raise JobFailure(
                "outputs_unchanged",
                "The trained adapter changes no log-probability of any text that it was measured on.",
                hint="Raise learning_rate, epochs or lora_r.",
            )
        elapsed = self._earlier_s + time.monotonic() - self._started
        metrics = outcome.metrics(trainer, plan, elapsed) | {
            "fingerprint_mean_change": fingerprint.mean_change,
            "fingerprint_max_change": fingerprint.max_change,
        }
        names = [example.row_id for example in train.examples]
        done = artifact.Outcome(
            metrics=metrics,
            data={
                "train": {**train.summary(), "hardest_rows": trainer.row_losses.worst(names, HARDEST_ROWS)},
                "validation": validation.summary(),
            },
            history=[line for line in trainer.state.log_history if "loss" in line or "eval_loss" in line],
            lineage=outcome.lineage(self._order, template, self._context.job_id, trainer),
        )
        plan = self._export(directory, plan, template)
        if self._config.method == "full":
            self._context.event(
                "The artifact is a whole model, not an adapter to be served on its base: `mt models prepare FOLDER "
                "--name NAME` makes it a base of its own."
            )
        artifact.write_documents(directory, self._order, plan, done, fingerprint, template)
        published = artifact.publish(directory, self._context.workdir / "artifact")
        machine = {**asdict(self._machine), "threads": self._threads}
        took = outcome.took(trainer, done, machine, self._expected_memory)
        return outcome.result(trainer, plan, done) | {"directory": str(published), "took": took}

    def _export(self, directory: Path, plan: Plan, template: PromptTemplate) -> Plan:
        """Add what was asked for besides the adapter; returns the plan with what was left out."""
        exported = export(directory, self._order, template, self._config.export)
        for one in exported:
            self._context.event(one.sentence, type="export", level="info" if one.reason is None else "warn")
        return replace(plan, effective=[*plan.effective, *applied_setting(exported)])


def out_of_memory(reason: str) -> JobFailure:
    """Outside of steps, where nothing can be made smaller: the model itself takes too much."""
    return JobFailure(
        "out_of_memory",
        f"The machine ran out of memory: {reason}",
        hint="Use a smaller model or a machine with more memory, or leave it more of this one's.",
    )


def _config(order: TrainOrder) -> TrainingConfig:
    try:
        return TrainingConfig(**{**order.config, "seed": order.seed})
    except ConfigError as error:
        raise JobFailure(
            "invalid_config", error.message, blame="user", param="training", hint=error.hint
        ) from error


def train(
    context: Context,
    order: TrainOrder,
    started: float | None = None,
    team: Team = ALONE,
    grade: Grade | None = None,
) -> dict[str, Any]:
    """Do one attempt at a training job that began when the monotonic clock was at `started`; see `TrainingRun.run`.

    `grade` tries generated answers whose rows have a check; without it nobody does.
    """
    try:
        began = time.monotonic() if started is None else started
        return TrainingRun(context, order, began, team, grade).run()
    except PlatformError as error:
        raise JobFailure.of(error) from error
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        raise out_of_memory(str(error).partition("\n")[0]) from error


def train_together(
    job: dict[str, Any],
    order: TrainOrder,
    speaker: Context | None,
    *,
    is_sharded: bool,
    started: float,
    grade: Grade | None = None,
) -> dict[str, Any]:
    """One process's part of an attempt that several processes do; see `team`.

    Args:
        job: the child's order: its id, attempt, fence and folder.
        speaker: process 0's context; the others have none.
        grade: process 0's too.
    """
    use_cpu = order.config.get("device") == "cpu" or not torch.cuda.is_available()
    team = join(use_cpu=use_cpu, is_sharded=is_sharded)
    return train(TeamContext(job, team, speaker), order, started, team, grade)
