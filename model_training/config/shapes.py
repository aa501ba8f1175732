"""The shapes of the catalogue's models: what memory and time are estimated from before a weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_training.config.catalogue import CatalogueEntry


@dataclass(frozen=True)
class Shape:
    """Widths of a Gemma. The word embeddings serve as output matrix too."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @property
    def query_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Width of all key heads together; that of the values is the same."""
        return self.kv_heads * self.head_dim

    @property
    def linear_layers(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each linear layer of a block, by name."""
        return {
            "q_proj": (self.hidden, self.query_width),
            "k_proj": (self.hidden, self.key_width),
            "v_proj": (self.hidden, self.key_width),
            "o_proj": (self.query_width, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def body_parameters(self) -> int:
        """Weights without the embeddings."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linear_layers.values())

    @property
    def head_parameters(self) -> int:
        """Weights of the embeddings."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All weights, but for the few of the norms."""
        return self.body_parameters + self.head_parameters

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Shape:
        """The shape that a model's `config.json` states.

        Raises:
            KeyError: it lacks a width.
        """
        text = config.get("text_config", config)
        return cls(
            layers=text["num_hidden_layers"],
            hidden=text["hidden_size"],
            intermediate=text["intermediate_size"],
            heads=text["num_attention_heads"],
            kv_heads=text["num_key_value_heads"],
            head_dim=text["head_dim"],
            vocabulary=text["vocab_size"],
        )


_KNOWN = {
    "gemma-2b": Shape(18, 2048, 16384, 8, 1, 256, 256_000),
    "gemma-7b": Shape(28, 3072, 24576, 16, 16, 256, 256_000),
    "gemma-2-2b": Shape(26, 2304, 9216, 8, 4, 256, 256_000),
    "gemma-2-9b": Shape(42, 3584, 14336, 16, 8, 256, 256_000),
    "gemma-3-270m": Shape(18, 640, 2048, 4, 1, 256, 262_144),
    "gemma-3-1b": Shape(26, 1152, 6912, 4, 1, 256, 262_144),
    "gemma-3-4b": Shape(34, 2560, 10240, 8, 4, 256, 262_208),
    "gemma-3-12b": Shape(48, 3840, 15360, 16, 8, 256, 262_208),
    "gemma-3-27b": Shape(62, 5376, 21504, 32, 16, 128, 262_208),
}


def shape_of(entry: CatalogueEntry) -> Shape:
    """The shape of a catalogue's model; one that is not listed is taken for the nearest listed one, deeper or shallower."""
    known = _KNOWN.get(entry.name.removesuffix("-it"))
    if known is not None:
        return known
    nearest = min(_KNOWN.values(), key=lambda shape: abs(shape.parameters - entry.parameters))
    block = nearest.body_parameters / nearest.layers
    layers = max(1, round((entry.parameters - nearest.head_parameters) / block))
    return Shape(layers, *[getattr(nearest, name) for name in list(Shape.__dataclass_fields__)[1:]])
