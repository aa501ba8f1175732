"""transformers' Trainer with our loss, our batches, our validation and lean checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, TrainerCallback, TrainerState

from libs.common.errors import JobFailure
from libs.common.training.plan import PASS_COST, Plan
from model_training.config.training_config import TrainingConfig
from services.trainer.recipe import checkpoints
from services.trainer.recipe.adapter import leave_inputs_alone, save_trained, whole_model
from services.trainer.recipe.arguments import training_arguments
from services.trainer.recipe.batches import Batch, Shuffled, best_fit, by_length, collate, passes
from services.trainer.recipe.disk import whole_or_nothing
from services.trainer.recipe.encode import Example
from services.trainer.recipe.generation import PassRate, Sample, generation_metrics, untried
from services.trainer.recipe.loss import IGNORED, install
from services.trainer.recipe.memory import MemoryLadder
from services.trainer.recipe.row_losses import RowLosses
from services.trainer.recipe.stopping import PatientStopping
from services.trainer.recipe.team import ALONE, Team


@dataclass
class Counters:
    """What a checkpoint carries besides tensors: all that was computed so far, earlier attempts included.

    `seconds` are those of forward and backward passes, `elapsed_s` those of whole attempts. `unreported_loss` is the sum of
    the losses since `reported_step`, `loss_before` the validation loss of the untouched base, and `ended` says that no step
    is left, because the last one is done or training stopped early. `lr_scale` is below 1 once training has diverged, and
    `pass_tokens` what fits into memory at once, if that is less than was planned (0: it is not).
    """

    tokens: int = 0
    supervised_tokens: int = 0
    computed_tokens: int = 0
    seconds: float = 0.0
    elapsed_s: float = 0.0
    unreported_loss: float = 0.0
    reported_step: int = 0
    loss_before: float | None = None
    ended: bool = False
    lr_scale: float = 1.0
    pass_tokens: int = 0


def _no_one(before: int, after: int) -> None:
    """Nobody is told of a halving."""


def _nobody(step: int, samples: Sequence[Sample]) -> None:
    """Nobody looks at samples."""


class AnswerTrainer(Trainer):
    """Trains an adapter, or a whole model, on supervised tokens.

    `model` is the base with its adapter, or without one; `plan` and `config` say how. `counters` counts what was computed,
    `tell_halving` is called when memory runs out, and `show_samples` with a step and what was answered at it.
    `pass_rate` tries answers whose rows have a check.
    `team` says which share of each step is computed here.
    """

    def __init__(
        self,
        model: PeftModel | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        *,
        config: TrainingConfig,
        plan: Plan,
        output_dir: Path,
        validation: Sequence[Example] = (),
        callbacks: Sequence[TrainerCallback] = (),
        counters: Counters | None = None,
        tell_halving: Callable[[int, int], None] = _no_one,
        show_samples: Callable[[int, Sequence[Sample]], None] = _nobody,
        pass_rate: PassRate = untried,
        team: Team = ALONE,
    ) -> None:
        self.team = team
        self._weight = 1.0
        self.counters = counters or Counters()
        self._show_samples = show_samples
        self._pass_rate = pass_rate
        self._examples = list(examples)
        self._validation = list(validation)
        self.row_losses = RowLosses(len(self._examples))
        self._plan = plan
        self._config = config
        longest = max((len(example.ids) for example in (*examples, *validation)), default=0)
        self.ladder = MemoryLadder(self.counters.pass_tokens or plan.pass_tokens, longest, tell_halving)
        install(whole_model(model))
        patience = PatientStopping(
            plan.patience, config.early_stopping_min_delta, config.early_stopping_warmup
        )
        super().__init__(
            model=model,
            args=training_arguments(
                config, plan, output_dir, validated=bool(validation), lr_scale=self.counters.lr_scale
            ),
            train_dataset=_Rows(self._examples),
            eval_dataset=_Rows(self._validation) if validation else None,
            processing_class=tokenizer,
            data_collator=collate(tokenizer.pad_token_id or 0),
            callbacks=[*([patience] if plan.patience else []), *callbacks],
        )
        self.model_accepts_loss_kwargs = True  # our loss divides by the tokens of the whole step
        self.remove_callback(PrinterCallback)
        self.add_callback(_CarryOn(self))
        if plan.precision != "fp32":
            leave_inputs_alone(self.model)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return Shuffled(len(self._examples), seed=self.args.seed)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Every process gets whole batches: their rows are shared out in `training_step`."""
        loader = super().get_train_dataloader()
        if self.team.size > 1:
            shard: Any = loader.batch_sampler
            shard.num_processes, shard.process_index, shard.even_batches = 1, 0, False
        return loader

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one pass; notes how each row fared."""
        rows = inputs.pop("rows")
        outputs = model(**inputs, num_items_in_batch=num_items_in_batch)
        learnt = inputs["labels"][:, 1:] != IGNORED
        self.row_losses.add(rows[:, 1:][learnt], outputs.token_losses)
        # The processes' gradients are averaged, and their sum is wanted.
        loss = outputs.loss * (self._weight * self.team.size)
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """Forward and backward over a batch, in passes of bounded size; see `plan.PASS_TOKENS`."""
        started = time.perf_counter()
        batch = self._prepare_inputs(inputs)
        computed = 0
        cost = PASS_COST[self._plan.device]

        def step(limit: int) -> Any:
            nonlocal computed
            # Each pass divides by the supervised tokens of the whole step, so the sum is the loss of the step.
            loss, computed = torch.zeros((), device=batch["input_ids"].device), 0
            for part in passes(batch, limit, packed=self._plan.packing, cost=cost):
                computed += part["input_ids"].numel()
                loss = loss + super(AnswerTrainer, self).training_step(model, part, num_items_in_batch)
            return loss

        if self.team.size > 1:
            loss, computed = self._shared_step(model, batch, num_items_in_batch)
        else:
            loss = self.ladder.run(step, model.zero_grad)
        counters = self.counters
        counters.pass_tokens = self.ladder.tokens if self.ladder.tokens < self._plan.pass_tokens else 0
        counters.seconds += time.perf_counter() - started
        counters.tokens += int(batch["attention_mask"].sum())
        counters.computed_tokens += computed
        counters.supervised_tokens += int((batch["labels"][:, 1:] != IGNORED).sum())
        return loss

    def _shared_step(self, model: Any, batch: Batch, items: Any) -> tuple[Any, int]:
        """This process's rows of a batch, forward and backward; what all have computed, in tokens, is the second answer.

        Memory that runs out here ends the job: the others are in the middle of the same step.
        """
        parts, weights = self._own_passes(batch)
        loss = torch.zeros((), device=batch["input_ids"].device)
        for number, (part, weight) in enumerate(zip(parts, weights, strict=True)):
            self._weight = weight
            last = number == len(parts) - 1
            # Gradients are added up among the processes once a step: some have more passes than others.
            with nullcontext() if last or self.team.is_sharded else self.accelerator.no_sync(model):
                loss = loss + super().training_step(model, part, items)
        self._weight = 1.0
        computed = sum(
            part["input_ids"].numel() for part, weight in zip(parts, weights, strict=True) if weight
        )
        return loss, self._tell_row_losses(batch, computed)

    def _own_passes(self, batch: Batch) -> tuple[list[Batch], list[float]]:
        """Passes over this process's rows and how much each counts: 0 for one that only keeps the others company."""
        lengths: list[int] = batch["attention_mask"].sum(dim=1).tolist()
        mine = self.team.share(lengths)
        cost = PASS_COST[self._plan.device]
        rows = {name: tensor[mine or [0]] for name, tensor in batch.items()}
        parts = list(passes(rows, self.ladder.tokens, packed=self._plan.packing, cost=cost))
        weights = [1.0 if mine else 0.0] * len(parts)
        if self.team.is_sharded:
            missing = self.team.most(len(parts), batch["input_ids"].device) - len(parts)
            parts += [parts[-1]] * missing
            weights += [0.0] * missing
        return [dict(part) for part in parts], weights

    def _tell_row_losses(self, batch: Batch, computed: int) -> int:
        """Let every process know how each row of a batch fared, and how many tokens all have computed."""
        numbers = batch["rows"][:, 0].cpu()
        mine = torch.zeros(len(numbers), dtype=torch.bool)
        mine[self.team.share(batch["attention_mask"].sum(dim=1).tolist())] = True
        told = torch.where(mine, self.row_losses.of(numbers), torch.zeros(len(numbers)))
        told = torch.cat([told.double(), torch.tensor([float(computed)]).double()])
        told = self.team.total(told.to(batch["input_ids"].device)).cpu()
        self.row_losses.put(numbers, told[:-1].float())
        return int(told[-1])

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Measure the validation rows, report it, and let stopping and choosing look at it."""
        metrics = self.validate()
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Over all validation rows, each supervised token counted once: `eval_loss` in nats a token, `eval_perplexity`,
        `eval_token_accuracy`; and, where answers are generated, what `generation.generation_metrics` says of them."""
        model = self.model
        was_training = model.training
        model.eval()
        loss, accuracy = self.ladder.run(self._validation_scores, lambda: None)
        metrics = {
            "eval_loss": loss,
            "eval_perplexity": math.exp(min(loss, 700.0)),
            "eval_token_accuracy": accuracy,
        }
        if asked := self._validation[: self._config.generate_rows]:
            with self.accelerator.autocast():
                show = partial(self._show_samples, self.state.global_step)
                metrics |= generation_metrics(model, self.processing_class, asked, show, self._pass_rate)
        model.train(was_training)
        return metrics

    def _validation_scores(self, limit: int) -> tuple[float, float]:
        total = hits = tokens = 0.0
        lengths = [len(example.ids) for example in self._validation]
        batches = (best_fit if self._plan.packing else by_length)(lengths, limit)
        if not self.team.is_sharded:
            batches = batches[self.team.rank :: self.team.size]
        for rows in batches:
            batch: Batch = self.data_collator([_row(self._validation[row], row) for row in rows])
            if self._plan.packing:
                (batch,) = passes(batch, max(limit, *(lengths[row] for row in rows)), packed=True)
            del batch["rows"]
            with self.accelerator.autocast():
                outputs = self.model(**self._prepare_inputs(batch))
            total += float(outputs.token_losses.double().sum())
            hits += float(outputs.hits.sum())
            tokens += len(outputs.hits)
        if not self.team.is_sharded:
            sums = torch.tensor([total, hits, tokens], dtype=torch.float64, device=self.args.device)
            total, hits, tokens = self.team.total(sums).tolist()
        return total / max(tokens, 1), hits / max(tokens, 1)

    def take_up(self, checkpoint: Path) -> None:
        """Be where training ended, without a step: the state and the adapter of a checkpoint that was the last."""
        self.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        self._load_from_checkpoint(str(checkpoint))

    def load_best(self) -> None:
        """Put the adapter with the lowest validation loss into the model, if there was any validation."""
        if self.state.best_model_checkpoint is not None:
            self._load_best_model()

    def _load_best_model(self) -> None:
        """Refuse a checkpoint that is not as it was written: damaged weights load without a complaint."""
        found = checkpoints.inspect(Path(str(self.state.best_model_checkpoint)))
        if found.marker is None:
            message = f"The best checkpoint, of step {found.step}, is damaged: {found.fault}."
            raise JobFailure("checkpoint_damaged", message, retry=True)
        super()._load_best_model()

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """The best step always leaves a checkpoint, also between two regular ones."""
        better = super()._determine_best_metric(metrics, trial)
        self.control.should_save = self.control.should_save or better
        return better

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
        directory = Path(str(self.args.output_dir)) / f"{checkpoints.PREFIX}{step}"
        with whole_or_nothing(directory, f"the checkpoint at step {step}"):
            super()._save_checkpoint(model, trial)
        self.team.wait()  # each process writes the state of its random numbers

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """What is trained alone: tokenizer and a frozen base do not change, and pickled arguments have no place here."""
        self.counters.unreported_loss = float(self._tr_loss)
        self.counters.reported_step = self._globalstep_last_logged
        directory = Path(output_dir or str(self.args.output_dir))
        save_trained(self.model, directory, state_dict)
        self.row_losses.save(directory)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.row_losses.load(Path(resume_from_checkpoint))


class _CarryOn(TrainerCallback):
    """Gives a resumed trainer what the checkpoint's own state does not: the losses that were computed and not reported,
    whose mean is the next report, and a learning rate that was lowered since."""

    def __init__(self, trainer: AnswerTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(
        self,
        args: Any,
        state: TrainerState,
        control: Any,
        optimizer: Any = None,
        lr_scheduler: Any = None,
        **_: Any,
    ) -> None:
        """Called after the trainer has set both losses to zero, and loaded optimiser and scheduler."""
        counters = self._trainer.counters
        self._trainer._tr_loss += counters.unreported_loss
        self._trainer._globalstep_last_logged = counters.reported_step
        if any(rate != args.learning_rate for rate in lr_scheduler.base_lrs):
            _lower(optimizer, lr_scheduler, args.learning_rate)


def _lower(optimizer: Any, scheduler: Any, rate: float) -> None:
    """Let a loaded optimiser and its scheduler have `rate` as the highest learning rate."""
    scheduler.base_lrs = [rate] * len(scheduler.base_lrs)
    for group, course in zip(optimizer.param_groups, scheduler.lr_lambdas, strict=True):
        group["initial_lr"] = rate
        group["lr"] = rate * course(scheduler.last_epoch)


class _Rows(Dataset[dict[str, Any]]):
    """Examples by number, as `collate` takes them."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return _row(self._examples[index], index)


def _row(example: Example, number: int) -> dict[str, Any]:
    return {"input_ids": example.ids, "labels": example.labels, "row": number}
