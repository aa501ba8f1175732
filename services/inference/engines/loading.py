"""Reads a base model, and merges a LoRA adapter into a copy that shares every tensor the adapter does not touch.

Safetensors only: nothing is ever unpickled, and no code that comes with a model is run.
"""

from __future__ import annotations

import copy
import json
import math
import re
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoModelForCausalLM

from model_training.config.catalogue import find_model
from services.inference.domain.generation import ModelRefused, ServedModel
from services.inference.engines import attention

_PREFIX = "base_model.model."
_PLAIN = {
    "use_dora": False,
    "bias": "none",
    "lora_bias": False,
    "modules_to_save": None,
    "fan_in_fan_out": False,
}
"""Settings of an adapter that merging here understands, by name; anything else in these is refused."""


@dataclass(frozen=True)
class LoraPair:
    """What is added to one weight: `scale * up @ down`."""

    down: torch.Tensor
    up: torch.Tensor
    scale: float


def pick_dtype(wanted: str) -> torch.dtype:
    """`auto` is bfloat16 where the processor multiplies it, else float32: emulated, bfloat16 is the slower one."""
    if wanted == "auto":
        return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[wanted]


def load_base(path: Path, dtype: torch.dtype) -> Any:
    """A causal language model from a Hugging Face directory, ready for inference."""
    model = AutoModelForCausalLM.from_pretrained(
        path,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation=attention.NAME,
    )
    return model.eval().requires_grad_(False)


def merge_adapter(base: Any, model: ServedModel) -> Any:
    """A copy of the base with the adapter's change added to its weights.

    Raises:
        ModelRefused: the adapter is of another base, of a kind that cannot be merged here, or damaged.
    """
    if model.adapter_path is None:
        return base
    config = _read_config(model, model.adapter_path)
    pairs = _read_pairs(model, model.adapter_path, config)
    shared = {id(tensor): tensor for tensor in chain(base.parameters(), base.buffers())}
    merged = copy.deepcopy(base, shared)
    for name, pair in pairs.items():
        module = _linear(merged, name, model)
        if (pair.up.shape[0], pair.down.shape[1]) != tuple(module.weight.shape):
            raise _refused(
                model,
                f"its change of {name} is {pair.up.shape[0]} x {pair.down.shape[1]} and the weight of "
                f"{model.base} is {module.weight.shape[0]} x {module.weight.shape[1]}; it was trained on another base",
            )
        change = pair.scale * (pair.up.float() @ pair.down.float())
        module.weight = nn.Parameter(
            (module.weight.float() + change).to(module.weight.dtype), requires_grad=False
        )
    return merged


def _read_config(model: ServedModel, path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(model, f"its adapter_config.json cannot be read ({error})") from error
    if config.get("peft_type") != "LORA":
        raise _refused(model, f"it is of the kind {config.get('peft_type')!r}; only LORA can be merged")
    for name, plain in _PLAIN.items():
        if config.get(name, plain) not in (plain, None):
            raise _refused(
                model, f"it was trained with {name} = {config[name]!r}, which cannot be merged here"
            )
    trained_on = _catalogue_name(str(config.get("base_model_name_or_path") or ""))
    if trained_on not in (None, model.base):
        raise _refused(model, f"it was trained on {trained_on} and not on {model.base}")
    return config


def _catalogue_name(base: str) -> str | None:
    """The catalogue's name of what an adapter says it was trained on; None for a name or path that tells us nothing."""
    entry = find_model(base) or find_model(base.rstrip("/").rsplit("/", 1)[-1])
    return entry.name if entry else None


def _read_pairs(model: ServedModel, path: Path, config: dict[str, Any]) -> dict[str, LoraPair]:
    downs: dict[str, torch.Tensor] = {}
    ups: dict[str, torch.Tensor] = {}
    try:
        with safe_open(path / "adapter_model.safetensors", framework="pt") as weights:
            for key in weights.keys():  # noqa: SIM118 (not a mapping)
                name, found, kind = key.removeprefix(_PREFIX).partition(".lora_")
                if not found or not key.startswith(_PREFIX) or kind not in ("A.weight", "B.weight"):
                    raise _refused(model, f"it holds {key!r}, which is not a LoRA matrix of a linear layer")
                (downs if kind[0] == "A" else ups)[name] = weights.get_tensor(key)
    except (OSError, SafetensorError) as error:
        raise _refused(model, f"its adapter_model.safetensors cannot be read ({error})") from error
    if not downs or downs.keys() != ups.keys():
        raise _refused(
            model, "its LoRA matrices do not come in pairs" if downs else "it holds no LoRA matrix"
        )
    return {name: LoraPair(down, ups[name], _scale(config, name)) for name, down in downs.items()}


def _scale(config: dict[str, Any], name: str) -> float:
    rank = _of_pattern(config.get("rank_pattern"), name, config["r"])
    alpha = _of_pattern(config.get("alpha_pattern"), name, config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_pattern(pattern: dict[str, float] | None, name: str, default: float) -> float:
    """PEFT's rule: a key is a regular expression for the end of a module's name."""
    return next((v for k, v in (pattern or {}).items() if re.match(rf"(.*\.)?({k})$", name)), default)


def _linear(merged: Any, name: str, model: ServedModel) -> nn.Linear:
    try:
        module = merged.get_submodule(name)
    except AttributeError:
        module = None
    if not isinstance(module, nn.Linear):
        raise _refused(model, f"it changes {name!r}, and {model.base} has no such linear layer")
    return module


def _refused(model: ServedModel, why: str) -> ModelRefused:
    return ModelRefused(f"The adapter of {model.name} cannot be served: {why}.", param="model")
