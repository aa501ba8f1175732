"""TRL's SFTTrainer with our loss, our batches, our validation and lean checkpoints."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.utils.data import Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import (
    EarlyStoppingCallback,
    PrinterCallback,
    TrainerCallback,
    TrainerState,
)
from trl import SFTConfig, SFTTrainer

from libs.common.errors import JobFailure
from libs.common.training.plan import Plan
from model_training.config.training_config import TrainingConfig
from services.trainer.recipe import checkpoints
from services.trainer.recipe.batches import LengthBuckets, by_length, collate, passes
from services.trainer.recipe.encode import Example
from services.trainer.recipe.loss import IGNORED, install


@dataclass
class Counters:
    """What a checkpoint carries besides tensors: all that was computed so far, earlier attempts included.

    `seconds` are those of forward and backward passes, `elapsed_s` those of whole attempts. `unreported_loss` is the sum of
    the losses since `reported_step`, `loss_before` the validation loss of the untouched base, and `ended` says that no step
    is left, because the last one is done or training stopped early.
    """

    tokens: int = 0
    supervised_tokens: int = 0
    seconds: float = 0.0
    elapsed_s: float = 0.0
    unreported_loss: float = 0.0
    reported_step: int = 0
    loss_before: float | None = None
    ended: bool = False


class AnswerTrainer(SFTTrainer):
    """Trains an adapter on supervised tokens.

    `model` is the plain base; `plan` and `config` say how. `counters` counts what was computed.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        *,
        config: TrainingConfig,
        plan: Plan,
        output_dir: Path,
        validation: Sequence[Example] = (),
        callbacks: Sequence[TrainerCallback] = (),
        counters: Counters | None = None,
    ) -> None:
        self.counters = counters or Counters()
        self._examples = list(examples)
        self._validation = list(validation)
        self._plan = plan
        self._bucketing = config.length_bucketing
        install(model)
        stoppers = (
            [EarlyStoppingCallback(plan.patience, config.early_stopping_min_delta)] if plan.patience else []
        )
        super().__init__(
            model=model,
            args=training_arguments(config, plan, output_dir, validated=bool(validation)),
            train_dataset=_dataset(self._examples),
            eval_dataset=_dataset(self._validation) if validation else None,
            processing_class=tokenizer,
            data_collator=collate(tokenizer.pad_token_id or 0),
            peft_config=adapter_config(config),
            callbacks=[*stoppers, *callbacks],
        )
        self.model_accepts_loss_kwargs = True  # our loss divides by the tokens of the whole step
        self.remove_callback(PrinterCallback)
        self.add_callback(_CarryOn(self))
        if plan.precision != "fp32":
            _leave_inputs_alone(self.model)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        lengths = [len(example.ids) for example in self._examples]
        return LengthBuckets(
            lengths, self.args.train_batch_size, seed=self.args.seed, bucketing=self._bucketing
        )

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one batch; TRL's own would ask for logits of every token to report their entropy."""
        outputs = model(**inputs, num_items_in_batch=num_items_in_batch)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """Forward and backward over one batch, in passes of bounded size whose gradients add up, counted."""
        started = time.perf_counter()
        # Every pass divides by the supervised tokens of the whole step, so the sum is the loss of the step.
        parts = passes(inputs, self._plan.pass_tokens)
        loss = sum(
            super(AnswerTrainer, self).training_step(model, part, num_items_in_batch) for part in parts
        )
        self.counters.seconds += time.perf_counter() - started
        self.counters.tokens += int(inputs["attention_mask"].sum())
        self.counters.supervised_tokens += int((inputs["labels"][:, 1:] != IGNORED).sum())
        return loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean loss of a supervised token over all validation rows, each token counted once."""
        metrics = {f"{metric_key_prefix}_loss": self.validation_loss()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @torch.no_grad()
    def validation_loss(self) -> float:
        """The loss on the validation rows, in nats a token."""
        model = self.model
        was_training = model.training
        model.eval()
        total = tokens = 0.0
        lengths = [len(example.ids) for example in self._validation]
        for rows in by_length(lengths, self._plan.pass_tokens):
            batch = self.data_collator([_row(self._validation[row]) for row in rows])
            count = int((batch["labels"][:, 1:] != IGNORED).sum())
            with self.accelerator.autocast():
                total += float(model(**self._prepare_inputs(batch)).loss) * count
            tokens += count
        model.train(was_training)
        return total / max(tokens, 1)

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

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The adapter alone: base and tokenizer do not change, and pickled arguments have no place here."""
        self.counters.unreported_loss = float(self._tr_loss)
        self.counters.reported_step = self._globalstep_last_logged
        save_adapter(self.model, Path(output_dir or str(self.args.output_dir)))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the artifact carries our own card."""


class _CarryOn(TrainerCallback):
    """Gives a resumed trainer the losses that it has computed and not reported: the next report is their mean as well."""

    def __init__(self, trainer: AnswerTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Called after the trainer has set both to zero."""
        counters = self._trainer.counters
        self._trainer._tr_loss += counters.unreported_loss
        self._trainer._globalstep_last_logged = counters.reported_step


def adapter_config(config: TrainingConfig) -> LoraConfig:
    """The LoRA settings of a configuration."""
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,  # pyright: ignore[reportArgumentType] (a float works and is documented here)
        lora_dropout=config.lora_dropout,
        target_modules=list(config.target_modules),
        use_rslora=config.use_rslora,
        bias="none",
        task_type="CAUSAL_LM",
    )


def training_arguments(config: TrainingConfig, plan: Plan, output_dir: Path, *, validated: bool) -> SFTConfig:
    """The settings of TRL and transformers for a plan."""
    scheduler = "constant_with_warmup" if config.lr_scheduler == "constant" else config.lr_scheduler
    return SFTConfig(
        output_dir=str(output_dir),
        per_device_train_batch_size=plan.batch_size,
        per_device_eval_batch_size=plan.batch_size,
        gradient_accumulation_steps=plan.gradient_accumulation,
        max_steps=plan.steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type=scheduler,
        warmup_steps=plan.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch",
        seed=config.seed,
        bf16=plan.precision == "bf16",
        fp16=plan.precision == "fp16",
        use_cpu=plan.device == "cpu",
        gradient_checkpointing=config.gradient_checkpointing,
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if validated else "no",
        eval_steps=plan.eval_steps,
        save_strategy="steps",
        save_steps=plan.save_steps,
        load_best_model_at_end=validated,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        max_length=None,  # rows are cut when they are encoded, where it is reported
        dataset_kwargs={"skip_prepare_dataset": True},
        loss_type="nll",
        remove_unused_columns=False,
        dataloader_pin_memory=plan.device == "cuda",
        disable_tqdm=True,
        report_to="none",
        push_to_hub=False,
    )


def save_adapter(model: PeftModel, directory: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors, without asking a hub about the base."""
    model.save_pretrained(str(directory), save_embedding_layers=False)
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's empty card


def _leave_inputs_alone(model: PeftModel) -> None:
    """Keep PEFT from widening every input to the adapter's float32: autocast computes adapters in the narrow type anyway,
    from float32 weights that small steps do not round away."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False


def _dataset(examples: Sequence[Example]) -> Dataset:
    return Dataset.from_list([_row(example) for example in examples])


def _row(example: Example) -> dict[str, list[int]]:
    return {"input_ids": example.ids, "labels": example.labels}
