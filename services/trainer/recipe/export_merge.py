"""Adds an adapter to the weights of its base: a model that loads without PEFT. One tensor at a time is in memory.

The adapter is read from its files and the base from its 16-bit safetensors, so an adapter that was trained on 4-bit weights
is merged into the full ones. PEFT itself does the sum, in float32 and for any kind of LoRA; it is rounded to bfloat16 once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from libs.common.errors import JobFailure
from libs.common.models import checkpoint
from libs.common.models.adapters.safetensors_file import write_bfloat16

_WRAPPERS = re.compile(r"^(?:(?:base_model|model|language_model)\.)+")
"""Modules around the layers; a checkpoint and the model that is made of it do not always nest them alike."""
_ADAPTER_KEY = re.compile(r"(.+)\.(lora_\w+?)(?:\.weight)?")


def merge_weights(base: Path, adapter: Path, target: Path) -> None:
    """Write the merged weights under the base's own file and tensor names, in bfloat16.

    Args:
        base: a prepared model.
        adapter: adapter_config.json and adapter_model.safetensors.
        target: an existing directory.

    Raises:
        JobFailure: the adapter changes something that the base does not have.
    """
    layers = _lora_layers(base, adapter)
    names = [path.name for path in base.iterdir()]
    for name in checkpoint.weight_files(names, checkpoint.read_index(base), str(base)):
        with safe_open(base / name, framework="pt") as file, (target / name).open("wb") as stream:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            write_bfloat16(stream, shapes, _merged(file, list(shapes), layers))
    if layers:
        raise JobFailure("export_failed", f"The base has no weights for the adapter's {min(layers)}.")


def _lora_layers(base: Path, adapter: Path) -> dict[str, Any]:
    """PEFT's layers by the plain name of the weight that they change, with the adapter's tensors and none of the base."""
    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    wrapped = PeftModel(empty, LoraConfig.from_pretrained(str(adapter)), low_cpu_mem_usage=True)
    for key, tensor in load_file(adapter / "adapter_model.safetensors").items():
        match = _ADAPTER_KEY.fullmatch(key)
        if match is None:
            raise JobFailure(
                "export_failed", f"The adapter's {key} cannot be merged: it is no part of a LoRA."
            )
        _holder(wrapped, match[1], match[2])["default"].weight = torch.nn.Parameter(
            tensor, requires_grad=False
        )
    found = ((name, module) for name, module in wrapped.named_modules() if isinstance(module, LoraLayer))
    return {_plain(f"{name}.weight"): module for name, module in found}


def _holder(wrapped: Any, name: str, kind: str) -> Any:
    try:
        return getattr(wrapped.get_submodule(name), kind)
    except AttributeError as error:
        raise JobFailure(
            "export_failed", f"The adapter changes {_plain(name)}, and its base has no such layer."
        ) from error


def _merged(file: Any, names: list[str], layers: dict[str, Any]) -> Iterator[Any]:
    for name in names:
        weight: torch.Tensor = file.get_tensor(name)
        if (layer := layers.pop(_plain(name), None)) is not None:
            weight = _merge(layer, weight)
        yield weight.to(torch.bfloat16).contiguous().view(torch.uint16).numpy()


def _merge(layer: Any, weight: torch.Tensor) -> torch.Tensor:
    inner = layer.get_base_layer()
    inner.weight = torch.nn.Parameter(weight.float(), requires_grad=False)
    layer.merge()
    return inner.weight.data


def _plain(name: str) -> str:
    return _WRAPPERS.sub("", name)
