"""What is said of an adapter before an engine has seen it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from services.inference.domain.adapters import AdapterFacts, BaseFacts, largest_rank, why_unfit
from services.inference.domain.generation import EngineTraits

LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
BASE = BaseFacts("gemma-3-270m", {"model.layers.0.self_attn.q_proj.weight": (32, 64)})
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 4,
    "bias": "none",
    "init_lora_weights": True,
    "base_model_name_or_path": "/models/gemma-3-270m",
}
SHAPES = {f"{LAYER}.lora_A.weight": (4, 64), f"{LAYER}.lora_B.weight": (32, 4)}
VLLM = EngineTraits("vllm", "0.32.0", "bfloat16", max_rank=8)
OURS = EngineTraits("transformers", "5.17.0", "bfloat16", applies_dora=True)


def why(traits: EngineTraits = VLLM, base: BaseFacts = BASE, shapes: Any = None, **config: Any) -> str | None:
    return why_unfit(AdapterFacts(CONFIG | config, SHAPES if shapes is None else shapes), base, traits)


def renamed(how: Callable[[str], str]) -> dict[str, tuple[int, ...]]:
    return {how(key): shape for key, shape in SHAPES.items()}


def test_what_fits_fits() -> None:
    assert why() is None
    assert why(OURS, r=512, use_dora=True) is None
    assert why(base_model_name_or_path="unsloth/something-bnb-4bit") is None  # says nothing of the catalogue
    assert why(base=BaseFacts("gemma-3-270m", None)) is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "IA3"}, "kind 'IA3'"),
        ({"r": 16}, "rank is 16, and vllm was started for at most 8"),
        ({"rank_pattern": {"q_proj": 32}}, "rank is 32"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"lora_bias": True}, "lora_bias = True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base's own weights"),
        (
            {"base_model_name_or_path": "google/gemma-3-1b-it"},
            "trained on gemma-3-1b-it and not on gemma-3-270m",
        ),
    ],
)
def test_what_an_engine_cannot_apply_is_named(config: dict[str, Any], words: str) -> None:
    assert words in (why(**config) or "it was taken")


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({}, "no LoRA matrix"),
        (
            renamed(lambda key: key.replace("model.layers", "model.language_model.layers")),
            "no such linear layer",
        ),
        (renamed(lambda key: key.removeprefix("base_model.model.")), "not a LoRA matrix"),
        (renamed(lambda key: key.replace("lora_B", "lora_embedding_B")), "not a LoRA matrix"),
        ({f"{LAYER}.lora_A.weight": (4, 64)}, "do not come in pairs"),
        (SHAPES | {f"{LAYER}.lora_B.weight": (48, 4)}, "48 x 64 and the weight of gemma-3-270m is 32 x 64"),
        (SHAPES | {f"{LAYER}.lora_magnitude_vector": (32,)}, "not a LoRA matrix"),
    ],
)
def test_every_matrix_must_have_its_weight(shapes: Any, words: str) -> None:
    assert words in (why(shapes=shapes) or "it was taken")


def test_the_largest_rank_counts_patterns() -> None:
    assert largest_rank({"r": 8, "rank_pattern": {"a": 4, "b": 64}}) == 64
    assert largest_rank({}) == 0
