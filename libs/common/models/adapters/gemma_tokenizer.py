"""Builds Gemma's tokenizer from the vocabulary in a GGUF file and saves it in Hugging Face's format.

Gemma's tokenizer is byte-pair encoding with the merges ordered by score. GGUF keeps no merges, only scores, so they are
derived: every split of a piece into two known pieces is a merge. transformers reads the same file as a unigram model
without `<bos>`, which gives other ids; that is why this module exists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from libs.common.models.errors import ModelNotPrepared

CONTROL, USER_DEFINED, BYTE = 3, 4, 6
"""Types of token in a GGUF file."""


def write_tokenizer(metadata: dict[str, Any], directory: Path, known_ids: dict[str, list[int]]) -> None:
    """Write tokenizer.json, tokenizer_config.json, and the chat template if the file has one.

    Raises:
        ModelNotPrepared: the tokenizer does not give the known ids.
    """
    tokenizer = build_tokenizer(
        metadata["tokenizer.ggml.tokens"],
        metadata["tokenizer.ggml.scores"],
        metadata["tokenizer.ggml.token_type"],
    )
    for text, ids in known_ids.items():
        if (found := tokenizer.encode(text).ids) != ids:
            raise ModelNotPrepared(f"The converted tokenizer gives {found} for {text!r} and not {ids}.")
    (directory / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "padding_side": "left",
        "model_max_length": metadata["gemma3.context_length"],
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if template := metadata.get("tokenizer.chat_template"):
        (directory / "chat_template.jinja").write_text(template, encoding="utf-8")


def build_tokenizer(pieces: list[str], scores: list[float], kinds: list[int]) -> Tokenizer:
    """The tokenizer of a SentencePiece BPE vocabulary; piece i has id i."""
    names = [
        _spaces_as_marks(piece) if kind == USER_DEFINED else piece
        for piece, kind in zip(pieces, kinds, strict=True)
    ]
    vocabulary = {name: index for index, name in enumerate(names)}
    merges = [
        (left, right) for _, _, left, right in sorted(_merges(vocabulary, scores, kinds), key=_merge_order)
    ]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(
        [
            AddedToken(name, normalized=False, special=True)
            for name, kind in zip(names, kinds, strict=True)
            if kind == CONTROL
        ]
    )
    # Runs of spaces are matched after the normalizer turned them into marks, as SentencePiece does; all else before.
    tokenizer.add_tokens(
        [
            AddedToken(name, normalized="▁" in name, special=False)
            for name, kind in zip(names, kinds, strict=True)
            if kind == USER_DEFINED
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return tokenizer


_Merge = tuple[float, int, str, str]


def _merges(vocabulary: dict[str, int], scores: list[float], kinds: list[int]) -> Iterator[_Merge]:
    for piece, index in vocabulary.items():
        if kinds[index] in (CONTROL, BYTE) or len(piece) < 2:
            continue
        # GGUF writes -1000 for user-defined pieces; SentencePiece takes them before anything else.
        score = 0.0 if kinds[index] == USER_DEFINED else scores[index]
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary:
                yield -score, cut, left, right


def _merge_order(merge: _Merge) -> tuple[float, int, int]:
    return merge[0], merge[1], len(merge[3])


def _spaces_as_marks(piece: str) -> str:
    return "▁" * len(piece) if piece.strip(" ") == "" else piece
