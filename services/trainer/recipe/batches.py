"""Which rows form a batch, and the batch as tensors."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

from services.trainer.recipe.loss import IGNORED

Batch = dict[str, torch.Tensor]

BUCKET_BATCHES = 16
"""Batches that are sorted by length together; more of them pad less and mix less."""

WIDTH_STEP = 8
"""Batches are padded to a multiple of so many tokens. oneDNN keeps code and packed weights, 2 MB a layer, for every shape
that it meets: with free widths a job grew by 2 GB, and spent a tenth of its time on preparing shapes."""


class LengthBuckets(Sampler[int]):
    """An order of rows in which each run of `batch_size` has similar lengths. It depends on seed and epoch alone.

    Rows are shuffled, cut into buckets of some batches, sorted by length inside a bucket, and the batches are shuffled
    again. A batch that is not full comes last, where the loader expects it.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, *, seed: int, bucketing: bool = True) -> None:
        self._lengths = list(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._bucketing = bucketing
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each pass; a resumed job sees the order that the interrupted one saw."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        order: list[int] = torch.randperm(len(self), generator=generator).tolist()
        if not self._bucketing:
            return iter(order)
        bucket = self._batch_size * BUCKET_BATCHES
        batches: list[list[int]] = []
        for start in range(0, len(order), bucket):
            rows = sorted(order[start : start + bucket], key=lambda row: -self._lengths[row])
            batches += [rows[i : i + self._batch_size] for i in range(0, len(rows), self._batch_size)]
        rest = batches.pop() if batches and len(batches[-1]) < self._batch_size else []
        places: list[int] = torch.randperm(len(batches), generator=generator).tolist()
        return iter([row for place in places for row in batches[place]] + rest)


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


def passes(batch: Batch, limit: int, *, packed: bool = False) -> Iterator[Batch]:
    """A batch in parts of at most `limit` tokens, or of one row. Every part has `rows`, the number of each token's row."""
    lengths: list[int] = batch["attention_mask"].sum(dim=1).tolist()
    if packed:
        for rows in best_fit(lengths, limit):
            yield _packed(batch, lengths, rows)
    else:
        yield from _padded(batch, lengths, limit)


def _padded(batch: Batch, lengths: list[int], limit: int) -> Iterator[Batch]:
    """Parts about as wide as their longest row: a power of two of rows and a multiple of `WIDTH_STEP` tokens, so that few
    shapes come up (see there)."""
    rows, width = batch["input_ids"].shape
    size = _power_of_two(limit // width)
    for start in range(0, rows, size):
        wide = min(width, _wide(max(lengths[start : start + size])))
        yield {name: tensor[start : start + size, :wide] for name, tensor in batch.items()}


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


def _power_of_two(number: int) -> int:
    """The largest power of two that is not above a number, at least 1."""
    return 1 << max(0, number.bit_length() - 1)


def by_length(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Batches for validation of at most `limit` tokens: rows sorted by length, so that almost nothing is padded."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if batches and (len(batches[-1]) + 1) * lengths[row] <= limit:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
