"""One question asked of each leg of a search: where every passage stands in each, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from model_training.contracts.indexes import Chunk, QueryHit
from model_training.contracts.retrieval import LabelledQuestion, SearchOptions

Leg = Literal["hybrid", "dense", "bm25"]
LEGS: tuple[Leg, ...] = ("hybrid", "dense", "bm25")
NAMES = {"hybrid": "merged", "dense": "by meaning", "bm25": "by words"}


@dataclass(frozen=True)
class Standing:
    """A passage in the lists. Ranks count from 1; a leg that did not find it is missing."""

    chunk: Chunk
    ranks: Mapping[str, int]
    scores: Mapping[str, float]

    def said(self, leg: str) -> str:
        """Rank and score in one leg: `2 · 0.713`; a dash where it was not found."""
        return f"{self.ranks[leg]} · {self.scores[leg]:.3g}" if leg in self.ranks else "–"


def standings(found: Mapping[str, Iterable[QueryHit]]) -> list[Standing]:
    """All passages that any leg found: in the merged order first, then those that only single legs found."""
    chunks: dict[str, Chunk] = {}
    ranks: dict[str, dict[str, int]] = {}
    scores: dict[str, dict[str, float]] = {}
    for leg in LEGS:
        for hit in found.get(leg, ()):
            chunks.setdefault(hit.chunk.id, hit.chunk)
            ranks.setdefault(hit.chunk.id, {})[leg] = hit.rank
            scores.setdefault(hit.chunk.id, {})[leg] = hit.score
    last = 10**9
    order = sorted(chunks, key=lambda name: (ranks[name].get("hybrid", last), min(ranks[name].values())))
    return [Standing(chunks[name], ranks[name], scores[name]) for name in order]


def labelled(content: bytes) -> list[LabelledQuestion]:
    """The questions of a file of evaluation items: an item's passage is any that is about its function.

    Raises:
        ValueError: a row is no item.
    """
    rows = [json.loads(line) for line in content.splitlines() if line.strip()]
    return [
        LabelledQuestion(
            id=row["id"], question=row["question"], functions=[row["group"]], kind=row.get("form", "all")
        )
        for row in rows
    ]


def described(options: SearchOptions | None) -> str:
    """A way to search in words: `hybrid, merged by scores (dbsf)`."""
    if options is None or options.mode is None:
        return "hybrid, the platform's default"
    said: list[str] = [options.mode]
    if options.mode == "hybrid":
        rule = options.fusion or "rrf"
        said.append(f"merged by {'rank' if rule == 'rrf' else 'scores'} ({rule})")
        if rule == "rrf" and options.rrf_k is not None:
            said.append(
                f"k {options.rrf_k}, weights {options.dense_weight or 1:g} to {options.bm25_weight or 1:g}"
            )
    if options.diversity:
        said.append(f"diversity {options.diversity:g}")
    if options.rerank and options.rerank != "none":
        said.append(f"ordered again by {options.rerank}")
    return ", ".join(said)
