"""A Gemma 3 model small enough to be made in a test: random weights, real architecture, a tokenizer of its own.

It answers nonsense, but every part that handles a model (masks, caches, adapters, tokenizers) works on it as on the real
one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from libs.common.models.loading import LOADING

_CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
_USER_DEFINED = ["\n", "\n\n", "  ", "    "]
_NORMAL_KIND, _CONTROL_KIND, _USER_KIND, _BYTE_KIND = 1, 3, 4, 6
WINDOW = 16
"""Sliding window of the tiny model, so short that ordinary test prompts exceed it."""


def tiny_tokenizer() -> Any:
    """A `tokenizers.Tokenizer` of 470 pieces: bytes, ASCII, and some pairs."""
    from libs.common.models.adapters.gemma_tokenizer import build_tokenizer

    characters = ["▁", *(chr(code) for code in range(33, 127))]
    pairs = [f"▁{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    pairs += [
        "in",
        "er",
        "on",
        "an",
        "re",
        "th",
        "li",
        "st",
        "Qu",
        "es",
        "An",
        "sw",
        "ti",
        "ch",
        "un",
        "()",
        "],",
    ]
    groups = [
        (_CONTROL, _CONTROL_KIND),
        (_USER_DEFINED, _USER_KIND),
        ([f"<0x{byte:02X}>" for byte in range(256)], _BYTE_KIND),
        (characters + pairs, _NORMAL_KIND),
    ]
    pieces = [piece for names, _ in groups for piece in names]
    kinds = [kind for names, kind in groups for _ in names]
    return build_tokenizer(pieces, [-float(index) for index in range(len(pieces))], kinds)


def write_tiny_gemma(directory: Path, *, seed: int = 0, hidden: int = 64, layers: int = 4) -> Path:
    """Write the model as a Hugging Face directory (float32) and return it. About 200,000 parameters."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    config = Gemma3TextConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=16,
        query_pre_attn_scalar=16,
        max_position_embeddings=512,
        sliding_window=WINDOW,
        layer_types=["full_attention" if index % 3 == 2 else "sliding_attention" for index in range(layers)],
        initializer_range=0.15,
    )
    with LOADING, torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = Gemma3ForCausalLM(config)
    with torch.no_grad():
        # Tied random embeddings predict the token just read; strong layers and faint non-letters make livelier text.
        model.model.embed_tokens.weight[: len(_CONTROL) + len(_USER_DEFINED) + 256] *= 0.2
        for layer in model.model.layers:
            layer.post_attention_layernorm.weight.fill_(2.0)
            layer.post_feedforward_layernorm.weight.fill_(2.0)
    model.save_pretrained(directory)
    (directory / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "padding_side": "left",
        "model_max_length": config.max_position_embeddings,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory


def write_tiny_adapter(directory: Path, base: Path, *, seed: int = 1, strength: float = 0.05) -> Path:
    """Write a LoRA adapter of rank 4 on all linear layers of a tiny model. With strength 0 it changes nothing."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with LOADING, torch.random.fork_rng():
        torch.manual_seed(seed)
        base_model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        model: Any = get_peft_model(
            base_model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        )
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=strength) if strength else parameter.data.zero_()
    model.save_pretrained(directory)
    return directory
