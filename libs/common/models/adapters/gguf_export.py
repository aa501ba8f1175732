"""Writes a Gemma 3 text model in Hugging Face's layout as a GGUF file: matrices in bfloat16, norms in float32.

The inverse of `gemma_checkpoint` and `gemma_tokenizer`, with the same tables. One tensor at a time is in memory. The vision
part of an image-text model is left out, as llama.cpp keeps it in a file of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, RopeScalingType
from safetensors import safe_open

from libs.common.models import checkpoint
from libs.common.models.adapters.gemma_checkpoint import LAYER_NAMES, TOP_NAMES, query_scalar
from libs.common.models.adapters.gguf_vocabulary import Vocabulary, read_vocabulary

_LAYER = re.compile(r"layers\.(\d+)\.(.+)\.weight")
_PREFIX = re.compile(r"^(?:(?:model|language_model)\.)+")
_TOP = {_PREFIX.sub("", there): here for here, there in TOP_NAMES.items()}
_IN_LAYER = {there: here for here, there in LAYER_NAMES.items()}
_VISION = ("vision_tower.", "multi_modal_projector.")
_NOT_THERE = {"lm_head.weight"}
"""Tied to the embeddings."""


@dataclass(frozen=True)
class GgufLabel:
    """What the file says of itself. `end_of_turn` is the special token that ends an answer."""

    name: str
    licence: str
    chat_template: str | None = None
    end_of_turn: str | None = None


def write_gguf(model: Path, target: Path, label: GgufLabel) -> None:
    """Convert a directory.

    Args:
        model: config.json, tokenizer.json and safetensors.
        target: the file to write; it is only whole when this returns.

    Raises:
        ValueError: it is not a Gemma 3 whose weights and tokenizer GGUF can hold.
    """
    config = _text_config(model)
    vocabulary = read_vocabulary(model / "tokenizer.json")
    writer = GGUFWriter(target, "gemma3")
    try:
        _write_label(writer, label)
        _write_architecture(writer, config)
        _write_vocabulary(writer, vocabulary, label)
        with ExitStack() as stack:
            _write_tensors(writer, _open(model, stack))
    finally:
        writer.close()


def _text_config(model: Path) -> Any:
    from transformers import AutoConfig

    kind = json.loads((model / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind not in ("gemma3", "gemma3_text"):
        raise ValueError(f"a model of the kind {kind!r} cannot be written as GGUF, only Gemma 3")
    config: Any = AutoConfig.from_pretrained(model, local_files_only=True, trust_remote_code=False)
    text = config.get_text_config()
    assumed = query_scalar(text.num_hidden_layers, text.head_dim, text.hidden_size, text.num_attention_heads)
    if text.query_pre_attn_scalar != assumed:
        raise ValueError(
            f"readers of GGUF would not know its query_pre_attn_scalar = {text.query_pre_attn_scalar}"
        )
    return text


def _write_label(writer: GGUFWriter, label: GgufLabel) -> None:
    writer.add_type("model")
    writer.add_name(label.name)
    writer.add_license(label.licence)
    writer.add_file_type(LlamaFileType.MOSTLY_BF16)
    writer.add_quantization_version(2)


def _write_architecture(writer: GGUFWriter, config: Any) -> None:
    wide, narrow = (config.rope_parameters[kind] for kind in ("full_attention", "sliding_attention"))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_sliding_window(config.sliding_window)
    writer.add_sliding_window_pattern(_pattern(config.layer_types))
    writer.add_rope_freq_base(wide["rope_theta"])
    writer.add_rope_freq_base_swa(narrow["rope_theta"])
    if factor := wide.get("factor"):
        writer.add_rope_scaling_type(RopeScalingType(wide["rope_type"]))
        writer.add_rope_scaling_factor(factor)


def _pattern(kinds: list[str]) -> int:
    """Every how many layers one sees the whole context."""
    full = [index for index, kind in enumerate(kinds) if kind == "full_attention"]
    every = full[0] + 1 if full else len(kinds) + 1
    if full != list(range(every - 1, len(kinds), every)):
        raise ValueError("its layers with full attention do not come at equal distances")
    return every


def _write_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary, label: GgufLabel) -> None:
    ids = {piece: index for index, piece in enumerate(vocabulary.pieces)}
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary.pieces)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.kinds)
    writer.add_bos_token_id(ids["<bos>"])
    writer.add_eos_token_id(ids["<eos>"])
    writer.add_unk_token_id(ids["<unk>"])
    writer.add_pad_token_id(ids["<pad>"])
    if label.end_of_turn in ids and label.end_of_turn != "<eos>":
        writer.add_eot_token_id(ids[label.end_of_turn])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    if label.chat_template:
        writer.add_chat_template(label.chat_template)


def _open(model: Path, stack: ExitStack) -> list[Any]:
    names = [path.name for path in model.iterdir()]
    wanted = checkpoint.weight_files(names, checkpoint.read_index(model), str(model))
    return [stack.enter_context(safe_open(model / name, framework="pt")) for name in wanted]


def _write_tensors(writer: GGUFWriter, files: list[Any]) -> None:
    names = [(file, there) for file in files for there in file.keys()]  # noqa: SIM118 (not a mapping)
    plan = [(file, there, here) for file, there in names if (here := _gguf_name(there))]
    for file, there, here in plan:
        shape = file.get_slice(there).get_shape()
        narrow = len(shape) > 1
        kind = GGMLQuantizationType.BF16 if narrow else GGMLQuantizationType.F32
        count = torch.Size(shape).numel()
        writer.add_tensor_info(
            here, shape, np.dtype(np.uint16 if narrow else np.float32), count * (2 if narrow else 4), kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for values in _values(plan):
        writer.write_tensor_data(values)


def _values(plan: list[tuple[Any, str, str]]) -> Iterator[Any]:
    for file, there, _ in plan:
        tensor: torch.Tensor = file.get_tensor(there)
        if tensor.ndim > 1:
            yield tensor.to(torch.bfloat16).view(torch.uint16).numpy()
        else:
            yield (tensor.float() + 1).numpy()  # llama.cpp multiplies by the stored norm, Gemma by one more


def _gguf_name(name: str) -> str | None:
    plain = _PREFIX.sub("", name)
    if plain in _NOT_THERE or plain.startswith(_VISION):
        return None
    if plain in _TOP:
        return _TOP[plain]
    match = _LAYER.fullmatch(plain)
    if match is None or match[2] not in _IN_LAYER:
        raise ValueError(f"GGUF has no place for the tensor {name!r} in a Gemma 3")
    return f"blk.{match[1]}.{_IN_LAYER[match[2]]}.weight"
