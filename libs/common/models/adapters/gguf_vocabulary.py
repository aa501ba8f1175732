"""The vocabulary of a Gemma tokenizer.json as GGUF keeps it: pieces with scores and kinds, and no merges.

The inverse of `gemma_tokenizer.build_tokenizer`. Whoever reads GGUF merges the pair whose piece has the highest score; so a
piece scores by its place among the merges, and the order of merging stays what it was.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.common.models.adapters.gemma_tokenizer import BYTE, CONTROL, USER_DEFINED

NORMAL = 1
NEVER_MERGED = -1000.0
"""What llama.cpp's own converter writes for pieces that no merge makes."""

_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class Vocabulary:
    """Piece i has id i; `kinds` are GGUF's token types."""

    pieces: list[str]
    scores: list[float]
    kinds: list[int]


def read_vocabulary(tokenizer_file: Path) -> Vocabulary:
    """The vocabulary of a tokenizer.json.

    Raises:
        ValueError: it is not byte-pair encoding as Gemma has it, or ids are missing.
    """
    content = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    model = content["model"]
    if model.get("type") != "BPE" or not model.get("byte_fallback"):
        raise ValueError(f"a tokenizer of the type {model.get('type')!r} is not Gemma's")
    added = {token["id"]: token for token in content["added_tokens"]}
    names: dict[int, str] = {index: piece for piece, index in model["vocab"].items()}
    names |= {index: token["content"] for index, token in added.items()}
    if sorted(names) != list(range(len(names))):
        raise ValueError("the ids of the vocabulary have gaps")
    pieces = [names[index] for index in range(len(names))]
    kinds = [_kind(piece, added.get(index)) for index, piece in enumerate(pieces)]
    scores = _scores(pieces, kinds, model["merges"])
    return Vocabulary([_text(piece, kind) for piece, kind in zip(pieces, kinds, strict=True)], scores, kinds)


def _kind(piece: str, added: dict[str, Any] | None) -> int:
    if added is not None:
        return CONTROL if added["special"] else USER_DEFINED
    return BYTE if _BYTE_PIECE.fullmatch(piece) else NORMAL


def _scores(pieces: list[str], kinds: list[int], merges: list[Any]) -> list[float]:
    first: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        first.setdefault(left + right, rank)
    normal = [index for index, kind in enumerate(kinds) if kind == NORMAL]
    by_rank = sorted(normal, key=lambda index: (first.get(pieces[index], len(merges)), index))
    scores = [0.0 if kind == BYTE else NEVER_MERGED for kind in kinds]
    for place, index in enumerate(by_rank):
        scores[index] = -float(place)
    return scores


def _text(piece: str, kind: int) -> str:
    """Runs of spaces are matched in the text as it is, before spaces become marks."""
    return piece.replace("▁", " ") if kind == USER_DEFINED else piece
