"""Remembers the keys and values of prompts that were read lately, so that a prompt that begins like one is not read again.

Evaluation sends hundreds of prompts with the same examples in front; reading those once instead of each time is most of
the saving. Limited by tokens; the one not used for longest goes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from services.inference.domain.generation import common_prefix

SHORTEST = 32
"""Tokens below which copying costs as much as computing."""


@dataclass(frozen=True)
class Prefix:
    """Token ids and their keys and values, [layer, head, position, dim] each."""

    ids: tuple[int, ...]
    keys: torch.Tensor
    values: torch.Tensor


class PrefixStore:
    """Prefixes in the order of their use, the newest last."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._entries: list[Prefix] = []

    def find(self, ids: Sequence[int]) -> tuple[Prefix | None, int]:
        """The entry that shares the most leading tokens with `ids`, and how many."""
        best: Prefix | None = None
        length = 0
        for entry in self._entries:
            if (shared := common_prefix(entry.ids, ids)) > length:
                best, length = entry, shared
        if best is not None:
            self._entries.remove(best)
            self._entries.append(best)
        return best, length

    def wants(self, ids: Sequence[int]) -> bool:
        """Whether keeping this prompt is worth its copy: it is neither tiny, nor huge, nor known."""
        known = any(common_prefix(entry.ids, ids) == len(ids) for entry in self._entries)
        return SHORTEST <= len(ids) <= self._max_tokens and not known

    def add(self, prefix: Prefix) -> None:
        """Keep a prefix; what it extends, and what is too much, goes."""
        self._entries = [e for e in self._entries if common_prefix(e.ids, prefix.ids) < len(e.ids)]
        self._entries.append(prefix)
        while sum(len(entry.ids) for entry in self._entries) > self._max_tokens:
            self._entries.pop(0)
