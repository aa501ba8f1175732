"""Every row once an epoch, in an order that seed and epoch decide, with little padding."""

from __future__ import annotations

import math
import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.trainer.recipe.batches import LengthBuckets, best_fit, by_length, collate, passes
from services.trainer.recipe.loss import IGNORED


def order(sampler: LengthBuckets, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=200),
    batch=st.integers(1, 17),
    seed=st.integers(0, 2**31 - 1),
    bucketing=st.booleans(),
)
def test_each_row_comes_once_and_the_order_repeats(
    lengths: list[int], batch: int, seed: int, bucketing: bool
) -> None:
    first = LengthBuckets(lengths, batch, seed=seed, bucketing=bucketing)
    again = LengthBuckets(lengths, batch, seed=seed, bucketing=bucketing)
    for epoch in (1, 0, 3):  # a resumed job starts in the middle
        assert sorted(order(first, epoch)) == list(range(len(lengths)))
        assert order(first, epoch) == order(again, epoch)


def test_epochs_and_seeds_differ() -> None:
    sampler = LengthBuckets(list(range(64)), 4, seed=0)
    assert order(sampler, 0) != order(sampler, 1)
    assert order(sampler, 0) != order(LengthBuckets(list(range(64)), 4, seed=1), 0)


def test_buckets_pad_less_than_chance() -> None:
    lengths = [random.Random(n).randint(10, 120) for n in range(403)]

    def computed(bucketing: bool) -> int:
        rows = order(LengthBuckets(lengths, 16, seed=0, bucketing=bucketing), 0)
        batches = [rows[i : i + 16] for i in range(0, len(rows), 16)]
        return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)

    assert computed(bucketing=True) < 1.1 * sum(lengths)
    assert computed(bucketing=False) > 1.4 * sum(lengths)


def test_validation_batches_hold_every_row_sorted() -> None:
    assert by_length([5, 1, 4, 2, 30], limit=8) == [
        [1, 3],
        [2],
        [0],
        [4],
    ]  # a row above the limit stands alone


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=20), limit=st.integers(1, 400))
def test_passes_hold_every_token_once_within_the_limit(lengths: list[int], limit: int) -> None:
    rows = [
        {"input_ids": [n + 1] * size, "labels": [n + 1] * size, "row": n} for n, size in enumerate(lengths)
    ]
    batch = collate(0)(rows)
    parts = list(passes(batch, limit))
    seen = [part["input_ids"][part["attention_mask"] == 1] for part in parts]
    assert torch.cat(seen).equal(batch["input_ids"][batch["attention_mask"] == 1])
    for part in parts:
        assert {tensor.shape for tensor in part.values()} == {part["input_ids"].shape}
        assert part["input_ids"].numel() <= limit or len(part["input_ids"]) == 1
        assert part["attention_mask"][:, -8:].any()
        assert part["input_ids"].shape[1] % 8 == 0


def test_collate_pads_on_the_right_and_masks() -> None:
    rows = [
        {"input_ids": [2, 7, 8], "labels": [IGNORED, 7, 8], "row": 5},
        {"input_ids": [2], "labels": [IGNORED], "row": 6},
    ]
    batch = collate(9)(rows)
    assert batch["input_ids"].tolist() == [[2, 7, 8, *[9] * 5], [2, *[9] * 7]]  # to a multiple of 8
    assert batch["attention_mask"].tolist() == [[1] * 3 + [0] * 5, [1] + [0] * 7]
    assert batch["labels"].tolist() == [[IGNORED, 7, 8, *[IGNORED] * 5], [IGNORED] * 8]
    assert batch["rows"].tolist() == [[5] * 8, [6] * 8]


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40), capacity=st.integers(1, 200))
def test_bins_hold_every_row_once_and_are_few(lengths: list[int], capacity: int) -> None:
    bins = best_fit(lengths, capacity)
    assert sorted(row for rows in bins for row in rows) == list(range(len(lengths)))
    for rows in bins:
        assert sum(lengths[row] for row in rows) <= capacity or len(rows) == 1
    inside = [length for length in lengths if length <= capacity]
    fewest = math.ceil(sum(inside) / capacity)
    assert len(bins) - (len(lengths) - len(inside)) <= 11 / 9 * max(fewest, _half(inside, capacity)) + 1


def _half(lengths: list[int], capacity: int) -> int:
    """Rows above half of the capacity, of which no bin takes two."""
    return max(1, sum(2 * length > capacity for length in lengths))


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=20), limit=st.integers(1, 400))
def test_packed_rows_keep_tokens_labels_and_positions(lengths: list[int], limit: int) -> None:
    rows = [
        {"input_ids": [n + 1] * size, "labels": [-n - 1] * size, "row": n} for n, size in enumerate(lengths)
    ]
    parts = list(passes(collate(0)(rows), limit, packed=True))
    assert sum(int((part["rows"] >= 0).sum()) for part in parts) == sum(lengths)
    for part in parts:
        assert set(part) == {
            "input_ids",
            "labels",
            "rows",
            "position_ids",
        }  # a mask would hide where rows begin
        assert part["input_ids"].shape[1] % 8 == 0
        for row in part["rows"].unique().tolist():
            here = part["rows"] == row
            ids, labels, positions = (part[name][here] for name in ("input_ids", "labels", "position_ids"))
            assert positions.tolist() == list(range(len(positions)))
            assert row == -1 or (len(ids) == lengths[row] and set(ids.tolist()) == {row + 1})
            assert row == -1 or set(labels.tolist()) == {-row - 1}
