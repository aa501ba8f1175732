"""Every row once an epoch, in an order that seed and epoch decide, with little padding."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.trainer.recipe.batches import Shuffled, best_fit, by_length, cheapest_cut, collate, passes
from services.trainer.recipe.loss import IGNORED


def order(sampler: Shuffled, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 200), seed=st.integers(0, 2**31 - 1))
def test_each_row_comes_once_and_the_order_repeats(rows: int, seed: int) -> None:
    first, again = Shuffled(rows, seed=seed), Shuffled(rows, seed=seed)
    for epoch in (1, 0, 3):  # a resumed job starts in the middle
        assert sorted(order(first, epoch)) == list(range(rows))
        assert order(first, epoch) == order(again, epoch)


def test_epochs_and_seeds_differ() -> None:
    sampler = Shuffled(64, seed=0)
    assert order(sampler, 0) != order(sampler, 1)
    assert order(sampler, 0) != order(Shuffled(64, seed=1), 0)


def test_no_step_is_of_one_length() -> None:
    lengths = [10] * 512 + [100] * 512
    rows = order(Shuffled(len(lengths), seed=0), 0)
    means = [sum(lengths[row] for row in rows[i : i + 16]) / 16 for i in range(0, len(rows), 16)]
    assert min(means) > 20
    assert max(means) < 90


@settings(max_examples=100, deadline=None)
@given(
    widths=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    limit=st.integers(1, 400),
    cost=st.integers(0, 99),
)
def test_no_other_cut_costs_less(widths: list[int], limit: int, cost: int) -> None:
    widths.sort(reverse=True)

    def price(sizes: list[int]) -> float:
        total, first = 0, 0
        for size in sizes:
            if size > 1 and size * widths[first] > limit:
                return math.inf
            total, first = total + size * widths[first] + cost, first + size
        return total

    def cuts(rows: int) -> Iterator[list[int]]:
        if rows == 0:
            yield []
        for size in (1, 2, 4, 8):
            if size <= rows:
                yield from ([size, *rest] for rest in cuts(rows - size))

    chosen = cheapest_cut(widths, limit, cost)
    assert sum(chosen) == len(widths)
    assert price(chosen) == min(price(sizes) for sizes in cuts(len(widths)))


def test_parts_by_length_pad_little() -> None:
    lengths = [random.Random(n).randint(10, 120) for n in range(64)]
    batch = collate(0)([{"input_ids": [1] * n, "labels": [1] * n, "row": i} for i, n in enumerate(lengths)])
    computed = sum(part["input_ids"].numel() for part in passes(batch, 1024, cost=32))
    assert computed < 1.2 * sum(lengths)
    assert batch["input_ids"].numel() > 1.5 * sum(lengths)


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
    there = batch["input_ids"][batch["attention_mask"] == 1]
    assert torch.cat(seen).sort().values.equal(there.sort().values)
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
