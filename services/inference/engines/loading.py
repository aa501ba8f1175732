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
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from services.inference.domain.adapters import DOWN, MAGNITUDE, PREFIX, UP
from services.inference.domain.generation import ModelRefused, ServedModel
from services.inference.engines import attention
from services.inference.engines.norms import fuse_norms
from services.inference.engines.packing import PackedLinear, linear_of, pack


@dataclass(frozen=True)
class LoraPair:
    """What is added to one weight: `scale * up @ down`. With DoRA, `magnitude` is the length of each row of the result."""

    down: torch.Tensor
    up: torch.Tensor
    scale: float
    magnitude: torch.Tensor | None = None

    def applied_to(self, weight: torch.Tensor) -> torch.Tensor:
        """The changed weight in float32. DoRA as in S. Liu et al. 2024 (arXiv 2402.09353), equation 5."""
        changed = weight.float() + self.scale * (self.up.float() @ self.down.float())
        if self.magnitude is None:
            return changed
        return changed * (self.magnitude.float() / changed.norm(dim=1)).unsqueeze(1)


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
    fuse_norms(model)
    pack(model)
    return model.eval().requires_grad_(False)


def merge_adapter(base: Any, model: ServedModel) -> Any:
    """A copy of the base with the adapter's change added to its weights.

    Raises:
        ModelRefused: the adapter does not fit this base, or is damaged.
    """
    if model.adapter_path is None:
        return base
    pairs = _read_pairs(model, model.adapter_path)
    shared = {id(tensor): tensor for tensor in chain(base.parameters(), base.buffers())}
    merged = copy.deepcopy(base, shared)
    for name, pair in pairs.items():
        layer = _linear(merged, name, model)
        weight = layer.weight
        if (pair.up.shape[0], pair.down.shape[1]) != tuple(weight.shape):
            raise _refused(model, f"its change of {name} does not have the shape of the base's weight")
        merged.set_submodule(name, linear_of(pair.applied_to(weight).to(weight.dtype), layer.bias))
    return merged


def _read_pairs(model: ServedModel, path: Path) -> dict[str, LoraPair]:
    """The matrices by the name of the layer that they change. What else an adapter may hold was refused before."""
    try:
        config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
        weights = load_file(path / "adapter_model.safetensors")
        names = [key.removesuffix(DOWN) for key in weights if key.endswith(DOWN)]
        return {
            layer.removeprefix(PREFIX): LoraPair(
                weights[layer + DOWN],
                weights[layer + UP],
                _scale(config, layer.removeprefix(PREFIX)),
                weights.get(layer + MAGNITUDE),
            )
            for layer in names
        }
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _refused(model, f"its files cannot be read ({error!r})") from error


def _scale(config: dict[str, Any], name: str) -> float:
    rank = _of_pattern(config.get("rank_pattern"), name, config["r"])
    alpha = _of_pattern(config.get("alpha_pattern"), name, config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_pattern(pattern: dict[str, float] | None, name: str, default: float) -> float:
    """PEFT's rule: a key is a regular expression for the end of a module's name."""
    return next((v for k, v in (pattern or {}).items() if re.match(rf"(.*\.)?({k})$", name)), default)


def _linear(merged: Any, name: str, model: ServedModel) -> nn.Linear | PackedLinear:
    try:
        module = merged.get_submodule(name)
    except AttributeError:
        module = None
    if not isinstance(module, nn.Linear | PackedLinear):
        raise _refused(model, f"it changes {name!r}, and {model.base} has no such linear layer")
    return module


def _refused(model: ServedModel, why: str) -> ModelRefused:
    return ModelRefused(f"The adapter of {model.name} cannot be served: {why}.", param="model")
