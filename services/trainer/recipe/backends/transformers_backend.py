"""transformers and PEFT: on a CPU, on a GPU, with base weights in 32, 16 or 4 bits."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from libs.common.training.plan import Plan
from model_training.config.training_config import TrainingConfig
from services.trainer.recipe.adapter import lora_config
from services.trainer.recipe.base import DTYPES, unreadable


def prepare(path: Path, plan: Plan, config: TrainingConfig) -> PeftModel | PreTrainedModel:
    """See `backends.prepare`."""
    model = _load(path, plan, config)
    if config.method == "full":
        return model
    model.requires_grad_(False)
    for module in model.modules():
        # On a CPU, bitsandbytes turns weights into another format at the first validation: one that only infers, is rounded
        # once more, and does not take every width. Training and validation must see the same weights.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    with warnings.catch_warnings():
        # A pattern that matches no layer is refused by name; see `adapter.check_patterns`.
        warnings.filterwarnings(
            "ignore", message=".*did not match any targeted module", category=RuntimeWarning
        )
        return get_peft_model(model, lora_config(config))


def _load(path: Path, plan: Plan, config: TrainingConfig) -> Any:
    options: dict[str, Any] = {}
    if config.load_in_4bit:
        options = {"quantization_config": four_bits(plan), "device_map": {"": plan.device}}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path,
            # Weights that are trained are float32: small steps would be rounded away in 16 bits. Autocast narrows them.
            dtype=torch.float32 if config.method == "full" else DTYPES[plan.precision],
            attn_implementation=plan.attention,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **options,
        )
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    return model if config.load_in_4bit else model.to(plan.device)


def four_bits(plan: Plan) -> BitsAndBytesConfig:
    """NF4 with double quantisation (Dettmers and others 2023, QLoRA), multiplied in the plan's precision."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32 if plan.precision == "fp32" else DTYPES[plan.precision],
    )
