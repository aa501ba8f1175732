"""The base model as it is served, and its tokenizer, from a prepared directory. Nothing is fetched, no code of it run."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from libs.common.errors import JobFailure
from libs.common.training.plan import Precision

DTYPES: dict[Precision, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
}


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a prepared model.

    Raises:
        JobFailure: it cannot be read.
    """
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def load_served(path: Path, device: str) -> PreTrainedModel:
    """The base in bfloat16, as servers hold it.

    Raises:
        JobFailure: it cannot be read.
    """
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.bfloat16, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    return model.to(device)  # pyright: ignore[reportArgumentType]


def unreadable(path: Path, error: Exception) -> JobFailure:
    """A prepared model that does not load."""
    return JobFailure(
        "model_unreadable",
        f"The base model in {path} cannot be read: {str(error).splitlines()[0]}",
        hint="Move the directory away and prepare the model again.",
    )
