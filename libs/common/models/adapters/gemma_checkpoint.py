"""Writes a Gemma 3 text model read from GGUF as config.json and bfloat16 safetensors in Hugging Face's layout.

`save_pretrained` refuses a model that was read from GGUF, so the tensors are written here, a block at a time.
GGUF stores Gemma's norm weights with one added (as llama.cpp computes them); Hugging Face stores them without.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from libs.common.models.adapters.gguf_file import GgufModel, GgufTensor
from libs.common.models.adapters.safetensors_file import write_bfloat16
from libs.common.models.errors import ModelNotPrepared

TOP_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_LAYER_NAME = re.compile(r"blk\.(\d+)\.(\w+)\.weight")
FULL_ATTENTION_EVERY = 6
"""Every sixth layer of Gemma 3 sees the whole context, the others a window with a rotary base of its own. Files seldom say
so."""
LOCAL_ROPE_THETA = 10_000.0
_LAYERS_OF_27B = 62


def write_checkpoint(model: GgufModel, directory: Path, progress: Callable[[float], None]) -> None:
    """Write config.json, generation_config.json and model.safetensors.

    Raises:
        ModelNotPrepared: the file is not a Gemma 3 text model.
    """
    if model.metadata.get("general.architecture") != "gemma3":
        raise ModelNotPrepared(
            f"The weights are of {model.metadata.get('general.architecture')!r}, not of gemma3."
        )
    _write_json(directory / "config.json", gemma_config(model))
    _write_json(
        directory / "generation_config.json", {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    )
    with (directory / "model.safetensors").open("wb") as stream:
        _write_tensors({_hugging_face_name(name): t for name, t in model.tensors.items()}, stream, progress)


def converted_bytes(model: GgufModel) -> int:
    """Room that the converted model takes: two bytes a weight, and some for tokenizer and settings."""
    return sum(2 * int(np.prod(tensor.shape)) for tensor in model.tensors.values()) + 64_000_000


def gemma_config(model: GgufModel) -> dict[str, Any]:
    """The content of config.json."""

    def of(key: str) -> Any:
        return model.metadata[f"gemma3.{key}"]

    layers = of("block_count")
    head_dim = of("attention.key_length")
    every = model.metadata.get("gemma3.attention.sliding_window_pattern", FULL_ATTENTION_EVERY)
    local_theta = model.metadata.get("gemma3.rope.freq_base_swa", LOCAL_ROPE_THETA)
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "dtype": "bfloat16",
        "vocab_size": model.tensors["token_embd.weight"].shape[0],
        "hidden_size": of("embedding_length"),
        "intermediate_size": of("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": of("attention.head_count"),
        "num_key_value_heads": of("attention.head_count_kv"),
        "head_dim": head_dim,
        "query_pre_attn_scalar": query_scalar(
            layers, head_dim, of("embedding_length"), of("attention.head_count")
        ),
        "max_position_embeddings": of("context_length"),
        "rms_norm_eps": round(of("attention.layer_norm_rms_epsilon"), 9),
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": of("attention.sliding_window"),
        "layer_types": ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(layers)],
        "rope_parameters": {
            "full_attention": {"rope_theta": of("rope.freq_base"), **_scaling(model)},
            "sliding_attention": {"rope_type": "default", "rope_theta": local_theta},
        },
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "bos_token_id": model.metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": model.metadata["tokenizer.ggml.eos_token_id"],
        "pad_token_id": model.metadata["tokenizer.ggml.padding_token_id"],
    }


def _scaling(model: GgufModel) -> dict[str, Any]:
    """From 4B on the whole-context layers stretch their positions."""
    factor = model.metadata.get("gemma3.rope.scaling.factor")
    return {"rope_type": "linear", "factor": factor} if factor else {"rope_type": "default"}


def query_scalar(layers: int, head_dim: int, hidden: int, heads: int) -> int:
    """By whose root attention scores are divided. Not in the file: the size of a head, except in 27B."""
    return hidden // heads if layers == _LAYERS_OF_27B else head_dim


def _hugging_face_name(name: str) -> str:
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    match = _LAYER_NAME.fullmatch(name)
    if match is None or match[2] not in LAYER_NAMES:
        raise ModelNotPrepared(f"The weights hold a tensor {name!r} that Gemma 3 does not have.")
    return f"model.layers.{match[1]}.{LAYER_NAMES[match[2]]}.weight"


def _write_tensors(
    tensors: dict[str, GgufTensor], stream: IO[bytes], progress: Callable[[float], None]
) -> None:
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    total = sum(prod(shape) for shape in shapes.values())

    def parts() -> Iterator[npt.NDArray[np.uint16]]:
        written = reported = 0
        for name, tensor in tensors.items():
            for block in tensor.blocks():
                yield to_bfloat16(block - 1 if name.endswith("norm.weight") else block)
                written += block.size
                if written - reported > total // 10:
                    reported = written
                    progress(written / total)

    write_bfloat16(stream, shapes, parts())


def to_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The upper half of each finite float32, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16).astype(np.uint16)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
