"""What can be said of an adapter before any engine has touched it: whether it fits its base and the engine at all.

An engine that is given names it does not know may load the adapter, say so, and answer as the base (vllm#34186); here
every matrix must have the weight that it changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from model_training.config.catalogue import find_model
from services.inference.domain.generation import EngineTraits

PREFIX = "base_model.model."
DOWN, UP, MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"
_NEVER = {
    "bias": ("none",),
    "lora_bias": (False,),
    "modules_to_save": ([],),
    "fan_in_fan_out": (False,),
    "layer_replication": ([],),
    "alora_invocation_tokens": ([],),
    "use_qalora": (False,),
    "use_bdlora": (False,),
}
"""Settings that no engine here applies, and the values that mean that they are off; None always does."""
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq")
"""Beginnings of ways to start LoRA that change the base's weights too."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class AdapterFacts:
    """An adapter's configuration and the shapes of its tensors, by name."""

    config: Mapping[str, Any]
    shapes: Shapes


@dataclass(frozen=True)
class BaseFacts:
    """A base by its name in the catalogue. `shapes` are of its weights; None where their names say nothing (a checkpoint
    with images is renamed when it is loaded)."""

    name: str
    shapes: Shapes | None


def why_unfit(facts: AdapterFacts, base: BaseFacts, traits: EngineTraits) -> str | None:
    """The first reason why this engine cannot serve the adapter on this base; None when there is none."""
    reasons = (*_of_config(facts.config, base, traits), *_of_tensors(facts, base))
    return next(iter(reasons), None)


def largest_rank(config: Mapping[str, Any]) -> int:
    """The rank that an engine must make room for."""
    return max(
        int(config.get("r") or 0), *(int(rank) for rank in (config.get("rank_pattern") or {}).values()), 0
    )


def _of_config(config: Mapping[str, Any], base: BaseFacts, traits: EngineTraits) -> Iterator[str]:
    if config.get("peft_type") != "LORA":
        yield f"it is of the kind {config.get('peft_type')!r}, and only LORA can be served"
    for name, off in _NEVER.items():
        if config.get(name) is not None and config[name] not in off:
            yield f"it was trained with {name} = {config[name]!r}, which cannot be applied when serving"
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        yield f"it was started with {start!r}, which changes the base's own weights as well"
    if config.get("use_dora") and not traits.applies_dora:
        yield f"it is a DoRA adapter, which {traits.name} does not apply; export the merged model"
    rank = largest_rank(config)
    if traits.max_rank is not None and rank > traits.max_rank:
        yield f"its rank is {rank}, and {traits.name} was started for at most {traits.max_rank}"
    trained_on = _catalogue_name(str(config.get("base_model_name_or_path") or ""))
    if trained_on not in (None, base.name):
        yield f"it was trained on {trained_on} and not on {base.name}"


def _of_tensors(facts: AdapterFacts, base: BaseFacts) -> Iterator[str]:
    endings = (DOWN, UP, *([MAGNITUDE] if facts.config.get("use_dora") else []))
    for key in facts.shapes:
        if not key.startswith(PREFIX) or not key.endswith(endings):
            yield f"it holds {key!r}, which is not a LoRA matrix of a linear layer"
    layers = {key.removesuffix(DOWN) for key in facts.shapes if key.endswith(DOWN)}
    if not layers:
        yield "it holds no LoRA matrix"
    if layers != {key.removesuffix(UP) for key in facts.shapes if key.endswith(UP)}:
        yield "its LoRA matrices do not come in pairs"
    for layer in sorted(layers):
        if base.shapes is not None and layer + UP in facts.shapes:
            yield from _of_layer(layer, facts.shapes, base.name, base.shapes)


def _of_layer(layer: str, shapes: Shapes, base_name: str, base_shapes: Shapes) -> Iterator[str]:
    name = layer.removeprefix(PREFIX)
    weight = base_shapes.get(f"{name}.weight")
    change = (shapes[layer + UP][0], shapes[layer + DOWN][-1])
    if weight is None:
        yield f"it changes {name!r}, and {base_name} has no such linear layer"
    elif change != weight:
        yield (
            f"its change of {name} is {change[0]} x {change[1]} and the weight of {base_name} is "
            f"{' x '.join(map(str, weight))}; it was trained on another base"
        )


def _catalogue_name(base: str) -> str | None:
    """The catalogue's name of what an adapter says it was trained on; None for a name or path that tells us nothing."""
    entry = find_model(base) or find_model(base.rstrip("/").rsplit("/", 1)[-1])
    return entry.name if entry else None
