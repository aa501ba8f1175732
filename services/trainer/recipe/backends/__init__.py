"""What loads a base model and puts the adapter onto it, by name. Everything after that is one recipe for all.

`prepare` imports the backend that the plan names and no other: Unsloth changes other libraries when it is imported.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel

from libs.common.training.plan import Plan
from model_training.config.training_config import TrainingConfig


def prepare(path: Path, plan: Plan, config: TrainingConfig) -> PeftModel | PreTrainedModel:
    """The base model on the plan's device: frozen and in its precision, with a fresh adapter whose weights are float32; or,
    for full fine-tuning, all of it trainable in float32.

    Raises:
        JobFailure: the model cannot be read, or the adapter does not fit it.
    """
    return import_module(f"{__name__}.{plan.backend}_backend").prepare(path, plan, config)
