"""The order of rows, a batch as tensors, and the parts in which it is computed."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

from services.trainer.recipe.loss import IGNORED

Batch = dict[str, torch.Tensor]

WIDTH_STEP = 8
"""Batches are padded to a multiple of so many tokens. oneDNN keeps code and packed weights, 2 MB a layer, for every shape
that it meets: with free widths a job grew by 2 GB, and spent a tenth of its time on preparing shapes."""


class Shuffled(Sampler[int]):
    """Every row once, in an order that depends on seed and epoch alone.

    Rows of a step are never chosen by length: a step of short answers weighs each of its tokens more than a step of long
    ones, and that costs more held-out loss than the padding costs time (benchmarks/training_cpu.py).
    """

    def __init__(self, rows: int, *, seed: int) -> None:
        self._rows = rows
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each pass; a resumed job sees the order that the interrupted one saw."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        return iter(torch.randperm(self._rows, generator=generator).tolist())


def collate(pad_id: int) -> Any:
    """A function that turns rows of `input_ids`, `labels` and `row` (its number) into tensors padded on the right.

    Padding stands on the right in training, where positions count from the first token, whatever side serving uses.
    """

    def to_tensors(rows: list[dict[str, Any]]) -> Batch:
        width = _wide(max(len(row["input_ids"]) for row in rows))
        ids = torch.full((len(rows), width), pad_id)
        labels = torch.full((len(rows), width), IGNORED)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            size = len(row["input_ids"])
            ids[index, :size] = torch.tensor(row["input_ids"])
            labels[index, :size] = torch.tensor(row["labels"])
            mask[index, :size] = 1
        numbers = torch.tensor([row["row"] for row in rows])
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": labels,
            "rows": numbers[:, None].expand_as(ids),
        }

    return to_tensors


def passes(batch: Batch, limit: int, *, packed: bool = False, cost: int = 0) -> Iterator[Batch]:
    """A batch in parts of at most `limit` tokens, or of one row. Every part has `rows`, the number of each token's row.

    `cost` is what a part takes besides its tokens, in tokens: the more, the fewer and the more padded the parts are.
    """
    lengths: list[int] = batch["attention_mask"].sum(dim=1).tolist()
    if packed:
        for rows in best_fit(lengths, limit):
            yield _packed(batch, lengths, rows)
    else:
        yield from _padded(batch, lengths, limit, cost)


def _padded(batch: Batch, lengths: list[int], limit: int, cost: int) -> Iterator[Batch]:
    """Parts of similar lengths, the longest first, as wide as their longest row: a power of two of rows and a multiple of
    `WIDTH_STEP` tokens, so that few shapes come up (see there)."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    widths = [_wide(lengths[row]) for row in order]
    start = 0
    for size in cheapest_cut(widths, limit, cost):
        yield {name: tensor[order[start : start + size], : widths[start]] for name, tensor in batch.items()}
        start += size


def cheapest_cut(widths: Sequence[int], limit: int, cost: int) -> list[int]:
    """How many rows each part takes, a power of two, so that computing all of them costs least.

    `widths` falls, and a part is as wide as its first row; it costs its rows times its width, and `cost` for itself. No part
    has more than `limit` tokens, or it has one row. The least cost of the rows from each on, found from the last one
    backwards: n log n steps for n rows.
    """
    best: list[tuple[int, int]] = [(0, 0)] * (
        len(widths) + 1
    )  # of the rest: its cost, and its first part's rows
    for first in reversed(range(len(widths))):
        most = min(len(widths) - first, max(1, limit // widths[first]))
        choices = (1 << power for power in range(most.bit_length()))
        best[first] = min((size * widths[first] + cost + best[first + size][0], size) for size in choices)
    sizes: list[int] = []
    while (first := sum(sizes)) < len(widths):
        sizes.append(best[first][1])
    return sizes


def _packed(batch: Batch, lengths: list[int], rows: list[int]) -> Batch:
    """Some rows end to end as one sequence, (1, tokens). Positions start again at every row, and there is no mask: from the
    two, transformers derives attention that stays within a row, for every kind of attention code."""
    wide = _wide(sum(lengths[row] for row in rows))
    device = batch["input_ids"].device

    def lay(name: str, fill: int) -> torch.Tensor:
        laid = torch.full((1, wide), fill, device=device)
        parts = torch.cat([batch[name][row, : lengths[row]] for row in rows])
        laid[0, : len(parts)] = parts
        return laid

    rest = wide - sum(lengths[row] for row in rows)
    positions = [torch.arange(length, device=device) for length in (*(lengths[row] for row in rows), rest)]
    return {
        "input_ids": lay("input_ids", 0),
        "labels": lay("labels", IGNORED),
        "rows": lay("rows", -1),
        "position_ids": torch.cat(positions)[None],
    }


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows in bins of at most `capacity` tokens (a longer row gets one to itself): the longest row first, each into the bin
    that it fills most (best-fit decreasing, at most 11/9 of the fewest bins and one more; Johnson 1973)."""
    room: list[tuple[int, int]] = []  # what is left in a bin, and which bin; sorted
    bins: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        place = bisect_left(room, (lengths[row], -1))
        if place < len(room):
            left, number = room.pop(place)
            bins[number].append(row)
        else:
            left, number = max(capacity, lengths[row]), len(bins)
            bins.append([row])
        insort(room, (left - lengths[row], number))
    return bins


def _wide(tokens: int) -> int:
    return math.ceil(tokens / WIDTH_STEP) * WIDTH_STEP


def by_length(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Batches for validation of at most `limit` tokens: rows sorted by length, so that almost nothing is padded."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if batches and (len(batches[-1]) + 1) * lengths[row] <= limit:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
