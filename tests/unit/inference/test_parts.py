"""The parts of the engine on their own: the nucleus, the prefix store, the row cache."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm

from services.inference.engines.kv_cache import RowCache, Shape
from services.inference.engines.norms import FusedNorm
from services.inference.engines.packing import PackedLinear, pack, packs
from services.inference.engines.prefixes import Prefix, PrefixStore
from services.inference.engines.sampling import Sampler, next_tokens, nucleus


@pytest.mark.parametrize("first", [4, 1000])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.97])
def test_the_nucleus_is_the_fewest_best_that_reach_top_p(top_p: float, first: int) -> None:
    probabilities = torch.softmax(torch.randn(200, generator=torch.Generator().manual_seed(1)), -1)
    kept, order = nucleus(probabilities, top_p, first)
    assert float(kept.sum()) >= top_p - 1e-6
    assert float(kept[:-1].sum()) < top_p
    assert torch.equal(order, probabilities.argsort(descending=True)[: len(order)])


def test_draws_follow_the_temperature() -> None:
    logits = torch.log(torch.tensor([[0.6, 0.3, 0.1]]))
    sampler = Sampler.of(1.0, 1.0, 5)
    drawn = [next_tokens(logits, [sampler])[0] for _ in range(2000)]
    assert drawn.count(0) / 2000 == pytest.approx(0.6, abs=0.05)
    cold = Sampler.of(0.01, 1.0, 5)
    assert {next_tokens(logits, [cold])[0] for _ in range(50)} == {0}


def prefix(*ids: int) -> Prefix:
    return Prefix(ids, torch.zeros(1), torch.zeros(1))


def test_the_prefix_store_keeps_the_last_used_within_its_tokens() -> None:
    store = PrefixStore(max_tokens=100)
    first, second, third = (prefix(*range(start, start + 40)) for start in (0, 1000, 2000))
    store.add(first)
    store.add(second)
    assert store.find([*range(30), 7]) == (first, 30)
    store.add(third)
    assert store.find(second.ids) == (None, 0)
    assert store.find(first.ids) == (first, 40)
    assert not store.wants(first.ids[:35])
    assert not store.wants(range(10))
    assert not store.wants(range(101))


def test_the_row_cache_keeps_its_rows_while_it_grows_and_swaps() -> None:
    cache = RowCache(Shape(layers=1, heads=1, head_dim=2, dtype=torch.float32))

    def write(rows: slice, positions: list[list[int]], value: float) -> torch.Tensor:
        where = torch.tensor(positions)
        cache.point_at(rows, where)
        filled = torch.full((where.shape[0], 1, where.shape[1], 2), value)
        return cache.update(filled, filled, 0)[0]

    write(slice(0, 1), [[0, 1]], 1.0)
    write(slice(1, 2), [[0, 1]], 2.0)
    keys = write(slice(0, 2), [[2], [700]], 3.0)
    assert keys.shape == (2, 1, 701, 2)
    assert keys[0, 0, :4, 0].tolist() == [1, 1, 3, 0]
    cache.swap(0, 1, 3)
    keys, _ = cache.take(0, 2)
    assert keys[0, 0, :, 0].tolist() == [2, 2]
    cache.put(5, *cache.take(1, 3), 3)
    assert cache.take(5, 3)[0][0, 0, :, 0].tolist() == [1, 1, 3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(1, 1, 640), (3, 4, 7, 256)])
def test_a_fused_norm_gives_the_bits_of_transformers(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(0)
    norm = Gemma3RMSNorm(shape[-1]).to(dtype)
    norm.weight.data.normal_(generator=draw)
    x = 30 * torch.randn(shape, generator=draw).to(dtype)
    with torch.inference_mode():
        assert torch.equal(FusedNorm(norm)(x), norm(x))


@pytest.mark.skipif(not packs(torch.bfloat16), reason="this processor does not multiply bfloat16")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("tokens", [1, 5, 300])
def test_a_packed_layer_answers_as_the_plain_one_and_gives_its_weight_back(tokens: int, bias: bool) -> None:
    plain = nn.Linear(64, 96, bias=bias).bfloat16().requires_grad_(False)
    packed = PackedLinear(plain.weight, plain.bias)
    x = torch.randn(2, tokens, 64).bfloat16()
    with torch.inference_mode():
        assert torch.allclose(packed(x).float(), plain(x).float(), atol=0.02, rtol=0.01)
    assert torch.equal(packed.weight, plain.weight)


def test_float32_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    pack(model)
    assert isinstance(model[0], nn.Linear)
