"""Which rows form a batch, and the batch as tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

from services.trainer.recipe.loss import IGNORED

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
    """A function that turns rows of `input_ids` and `labels` into tensors padded on the right.

    Padding stands on the right in training, where positions count from the first token, whatever side serving uses.
    """

    def to_tensors(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = math.ceil(max(len(row["input_ids"]) for row in rows) / WIDTH_STEP) * WIDTH_STEP
        ids = torch.full((len(rows), width), pad_id)
        labels = torch.full((len(rows), width), IGNORED)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            size = len(row["input_ids"])
            ids[index, :size] = torch.tensor(row["input_ids"])
            labels[index, :size] = torch.tensor(row["labels"])
            mask[index, :size] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    return to_tensors


def passes(batch: dict[str, torch.Tensor], limit: int) -> Iterator[dict[str, torch.Tensor]]:
    """A batch in parts of at most `limit` tokens, or of one row, each about as wide as its longest row.

    Parts hold a power of two of rows and a multiple of `WIDTH_STEP` tokens, so that few shapes come up (see there).
    """
    rows, width = batch["input_ids"].shape
    size = _power_of_two(limit // width)
    for start in range(0, rows, size):
        part = {name: tensor[start : start + size] for name, tensor in batch.items()}
        longest = int(part["attention_mask"].sum(dim=1).max())
        wide = min(width, math.ceil(longest / WIDTH_STEP) * WIDTH_STEP)
        yield {name: tensor[:, :wide] for name, tensor in part.items()}


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
