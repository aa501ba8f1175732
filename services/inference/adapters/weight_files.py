"""Reads what safetensors files say of themselves, without reading a weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from services.inference.domain.adapters import AdapterFacts, BaseFacts
from services.inference.domain.generation import ModelRefused


def read_adapter(name: str, path: Path) -> AdapterFacts:
    """An adapter's configuration and shapes.

    Raises:
        ModelRefused: a file is missing or damaged.
    """
    try:
        config: dict[str, Any] = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
        return AdapterFacts(config, _shapes(path / "adapter_model.safetensors"))
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelRefused(
            f"The adapter of {name} cannot be served: its files cannot be read ({error}).", param="model"
        ) from error


def read_base(name: str, path: Path) -> BaseFacts:
    """The shapes of a base's weights, where its names are those that adapters use."""
    config: dict[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
    if "text_config" in config:
        return BaseFacts(name, None)
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(path.glob("*.safetensors")):
        shapes |= _shapes(file)
    return BaseFacts(name, shapes)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(path, framework="np") as weights:
        return {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
