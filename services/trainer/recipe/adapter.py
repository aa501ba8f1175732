"""What is trained: the LoRA adapter, its settings for PEFT and its file; or the whole model and its."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from libs.common.errors import JobFailure
from model_training.config.training_config import TrainingConfig


def lora_config(config: TrainingConfig) -> LoraConfig:
    """The LoRA settings of a configuration."""
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,  # pyright: ignore[reportArgumentType] (a float works and is documented here)
        lora_dropout=config.lora_dropout,
        target_modules=list(config.target_modules),
        rank_pattern=dict(config.rank_pattern),
        alpha_pattern=dict(config.alpha_pattern),
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        bias="none",
        task_type="CAUSAL_LM",
    )


def check_patterns(model: Any, config: TrainingConfig) -> None:
    """Refuse a pattern that no layer matches: PEFT would train with the general rank and say nothing.

    Raises:
        JobFailure: a pattern is no regular expression or names no layer that has an adapter.
    """
    layers = [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    for field in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(config, field):
            if not _matches(pattern, layers):
                raise JobFailure(
                    "pattern_unmatched",
                    f"{field}: no layer with an adapter matches {pattern!r}.",
                    blame="user",
                    param=field,
                    hint=f"A layer is called, for example, {layers[0].partition('base_model.model.')[2]}.",
                )


def _matches(pattern: str, layers: list[str]) -> bool:
    """As PEFT matches: the pattern against the end of a name, from a dot on."""
    try:
        expression = re.compile(rf"(.*\.)?({pattern})")
    except re.error:
        return False
    return any(expression.fullmatch(layer) for layer in layers)


def whole_model(model: PeftModel | PreTrainedModel) -> Any:
    """The model around or without its adapter."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def save_trained(
    model: PeftModel | PreTrainedModel, directory: Path, state_dict: dict[str, Any] | None = None
) -> None:
    """Write what training changes: adapter_config.json and adapter_model.safetensors, without asking a hub about the base;
    or the whole model, if that is trained.

    Args:
        state_dict: all weights, where no process holds the whole model.
    """
    if not isinstance(model, PeftModel):
        model.save_pretrained(str(directory), state_dict=state_dict)
        return
    model.save_pretrained(str(directory), save_embedding_layers=False, state_dict=state_dict)
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's empty card


def leave_inputs_alone(model: Any) -> None:
    """Keep PEFT from widening every input to the adapter's float32: autocast computes adapters in the narrow type anyway,
    from float32 weights that small steps do not round away."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False
