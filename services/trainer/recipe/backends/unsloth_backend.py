"""Unsloth: its faster layers for Gemma on an NVIDIA GPU. Its trainer and its loss are not used.

The rows reach the model as token ids, so no processor ever sees them: with one, Unsloth leaves packing out for Gemma without
an error (unsloth#7206). The loss is the recipe's own, which projects supervised tokens only (unsloth#5230 is in the other).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel

from libs.common.training.plan import Plan
from model_training.config.training_config import TrainingConfig
from services.trainer.recipe.base import DTYPES, unreadable


def prepare(path: Path, plan: Plan, config: TrainingConfig) -> PeftModel:
    """See `backends.prepare`."""
    from unsloth import FastModel  # before anything of it is used: it changes transformers and PEFT

    try:
        model, _ = FastModel.from_pretrained(
            str(path),
            max_seq_length=max(config.max_length, plan.pass_tokens),
            dtype=DTYPES[plan.precision],
            load_in_4bit=config.load_in_4bit,
            full_finetuning=False,
            local_files_only=True,
        )
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    return FastModel.get_peft_model(model, **_adapter(config))


def _adapter(config: TrainingConfig) -> dict[str, Any]:
    """The adapter's settings by the names that Unsloth has for them."""
    return {
        "r": config.lora_r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": list(config.target_modules),
        "use_rslora": config.use_rslora,
        "use_dora": config.use_dora,
        "rank_pattern": dict(config.rank_pattern),
        "alpha_pattern": dict(config.alpha_pattern),
        "bias": "none",
        "random_state": config.seed,
        "use_gradient_checkpointing": "unsloth" if config.gradient_checkpointing else False,
    }
