"""The settings of transformers' Trainer for a configuration and its plan."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from libs.common.training.plan import Optimizer, Plan
from model_training.config.training_config import TrainingConfig

OPTIMIZERS: dict[Optimizer, str] = {
    "adamw": "adamw_torch",
    "adamw_fused": "adamw_torch_fused",
    "adamw_8bit": "adamw_8bit",
}
SCHEDULERS = {"constant": "constant_with_warmup", "wsd": "warmup_stable_decay"}
"""What transformers calls courses of the learning rate, where it calls them something else."""
DECAY_SHARE = 0.1
"""Share of the steps in which `wsd` lets the learning rate fall (Hägele and others 2024 find 10 to 20% enough)."""


def training_arguments(
    config: TrainingConfig, plan: Plan, output_dir: Path, *, validated: bool, lr_scale: float = 1.0
) -> TrainingArguments:
    """`lr_scale` is what a job that diverged once multiplies its learning rate by."""
    return TrainingArguments(
        # Of several processes, each sees the whole batch and computes its share: see `team`.
        average_tokens_across_devices=False,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        output_dir=str(output_dir),
        per_device_train_batch_size=plan.batch_size,
        per_device_eval_batch_size=plan.batch_size,
        gradient_accumulation_steps=plan.gradient_accumulation,
        max_steps=plan.steps,
        learning_rate=config.learning_rate * lr_scale,
        lr_scheduler_type=SCHEDULERS.get(config.lr_scheduler, config.lr_scheduler),
        lr_scheduler_kwargs=_scheduler_options(config, plan),
        warmup_steps=plan.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=OPTIMIZERS[plan.optimizer],
        neftune_noise_alpha=config.neftune_noise_alpha,
        seed=config.seed,
        bf16=plan.precision == "bf16",
        fp16=plan.precision == "fp16",
        use_cpu=plan.device == "cpu",
        gradient_checkpointing=config.gradient_checkpointing and plan.backend == "transformers",
        gradient_checkpointing_kwargs={"use_reentrant": False},
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
        remove_unused_columns=False,
        dataloader_pin_memory=plan.device == "cuda",
        disable_tqdm=True,
        report_to=list(config.report_to) or "none",
        push_to_hub=False,
    )


def _scheduler_options(config: TrainingConfig, plan: Plan) -> dict[str, Any]:
    if config.lr_scheduler != "wsd":
        return {}
    return {"num_decay_steps": math.ceil(DECAY_SHARE * plan.steps)}
