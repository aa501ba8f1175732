"""The base model and its tokenizer, from a prepared directory. Nothing is fetched and no code of a model is run."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from libs.common.errors import JobFailure
from libs.common.training.plan import MachineFacts, Plan, Precision

DTYPES: dict[Precision, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
}


def machine_facts() -> MachineFacts:
    """What this machine can compute on, and whether in bfloat16."""
    cuda = torch.cuda.is_available()
    return MachineFacts(cuda, torch.cuda.is_bf16_supported() if cuda else _cpu_multiplies_bf16())


def use_threads() -> int:
    """Compute on every processor that this process may use, or on `OMP_NUM_THREADS` where it is set; returns how many."""
    if "OMP_NUM_THREADS" not in os.environ:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        torch.set_num_threads(usable or 1)
    return torch.get_num_threads()


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a prepared model.

    Raises:
        JobFailure: it cannot be read.
    """
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def load_base(path: Path, plan: Plan) -> PreTrainedModel:
    """The base model, frozen, on the plan's device and in its precision.

    Raises:
        JobFailure: it cannot be read.
    """
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=DTYPES[plan.precision],
            attn_implementation=plan.attention,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    model.requires_grad_(False)
    return model.to(plan.device)  # pyright: ignore[reportArgumentType]


def _cpu_multiplies_bf16() -> bool:
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool((check and check()) or (amx and amx()))


def _unreadable(path: Path, error: Exception) -> JobFailure:
    return JobFailure(
        "model_unreadable",
        f"The base model in {path} cannot be read: {str(error).splitlines()[0]}",
        hint="Move the directory away and prepare the model again.",
    )
