"""Items in parts: each in one of them, groups whole; and questions that name what passages must be about."""

from __future__ import annotations

import json

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_training.contracts.evaluations import EvaluationItem, Part, PromptSpec, TextCheck
from services.evaluator.adapters.gateway_http import GatewayModels
from services.evaluator.parts import items_of_part
from services.evaluator.prompts import ModelTraits, PromptBuilder


def items(groups: list[int]) -> list[EvaluationItem]:
    return [
        EvaluationItem(
            id=f"i{n}", suite="s", form="f", question="q", answer="a", group=f"lib.f{g}", check=TextCheck()
        )
        for n, g in enumerate(groups)
    ]


@settings(deadline=None, max_examples=50)
@given(groups=st.lists(st.integers(0, 30), max_size=80), of=st.integers(1, 8), seed=st.integers(0, 2**31 - 1))
def test_every_item_is_in_one_part_with_its_group(groups: list[int], of: int, seed: int) -> None:
    everything = items(groups)
    parts = [items_of_part(everything, Part(number=number + 1, of=of), seed) for number in range(of)]
    assert sorted(item.id for part in parts for item in part) == sorted(item.id for item in everything)
    for part in parts:
        assert [item.id for item in part] == [item.id for item in everything if item in part]
    for a in parts:
        for b in parts:
            assert a is b or not {item.group for item in a} & {item.group for item in b}


def test_parts_are_about_equally_large_and_depend_on_the_seed() -> None:
    everything = items([n // 3 for n in range(240)])
    sizes = [len(items_of_part(everything, Part(number=number, of=4), 0)) for number in range(1, 5)]
    assert all(abs(size - 60) <= 3 for size in sizes)
    assert items_of_part(everything, Part(number=1, of=4), 0) != items_of_part(
        everything, Part(number=1, of=4), 1
    )


@pytest.mark.parametrize("right", [True, False])
def test_only_a_bound_is_told_what_an_item_is_about(right: bool) -> None:
    traits = ModelTraits("gemma-3-270m-it", is_tuned=False, is_retrieval=True, right_passages=right)
    prompts = PromptBuilder(PromptSpec(), traits, [])
    (item,) = items([7])
    sent: list[dict[str, object]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        return httpx.Response(200, json={"choices": [{"message": {"content": "a"}}], "usage": usage})

    models = GatewayModels("http://gateway", "t", model="rag:docs@gemma-3-270m-it", project="p")
    models._http = httpx.Client(base_url="http://gateway", transport=httpx.MockTransport(answer))  # pyright: ignore[reportPrivateUsage]
    models.ask(prompts.build(item))
    assert sent[0].get("retrieval") == ({"filter": {"functions": "lib.f7"}} if right else None)
    assert ("about the very function asked" in prompts.describe([item])) is right
