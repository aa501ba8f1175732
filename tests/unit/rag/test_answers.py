"""Answering: what goes into the prompt, what is reported, and that a budget is a budget."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.errors import InvalidInput, NotFound, TooLarge
from model_training.contracts.chat import ChatReply, ChatRequest
from model_training.contracts.indexes import Chunk
from services.rag.domain.search import Found, SearchPlan
from services.rag.service.answers import Answers, ContextRule


@dataclass
class FixedIndexes:
    """Finds the same passages for every question."""

    found: list[Found]
    asked: list[tuple[str, str, int]]

    def resolve(self, project_id: str, reference: str) -> Any:
        """Every index is there but one."""
        if reference == "missing":
            raise NotFound("There is no index 'missing'.", param="index")
        return SimpleNamespace(id="idx_1", stamp={})

    def search(
        self, index_id: str, text: str, plan: SearchPlan, limit: int, wanted: dict[str, list[str]]
    ) -> list[Found]:
        """The fixed passages, or those of an id."""
        self.asked.append((text, plan.mode, limit))
        found = [hit for hit in self.found if hit.chunk.id in wanted.get("id", [hit.chunk.id])]
        return found[:limit]

    def embedder(self, index_id: str) -> Any:
        """Two texts mean the same when they share a letter of the first ten."""
        return LetterEmbedder()


class LetterEmbedder:
    """Embeds a text as the letters among its first ten."""

    def embed_documents(self, texts: list[str]) -> Any:
        """Unit vectors of 26 numbers."""
        rows = np.array([[float(chr(97 + i) in text[:10].lower()) for i in range(26)] for text in texts])
        return rows / np.maximum(1, np.linalg.norm(rows, axis=1, keepdims=True))


def terms(text: str) -> frozenset[int]:
    """Words as numbers."""
    return frozenset(hash(word) for word in re.findall(r"[a-z]{3,}", text.lower()))


def answers(model: Any, sizes: list[int], rule: ContextRule | None = None) -> tuple[Answers, FixedIndexes]:
    found = [
        Found(Chunk(id=f"c{number}", title=f"t{number}", text="word " * size), 1 / (number + 2))
        for number, size in enumerate(sizes)
    ]
    indexes = FixedIndexes(found, [])
    return Answers(indexes, model, terms, rule), indexes  # type: ignore[arg-type]


def request(question: str = "how so?", **values: Any) -> ChatRequest:
    body = {"model": "rag:docs@m", "messages": [{"role": "user", "content": question}]} | values
    return ChatRequest.model_validate(body)


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 120), max_size=8),
    budget=st.integers(0, 300),
    passages=st.integers(1, 6),
    window=st.none() | st.integers(20, 400),
    output=st.integers(1, 100),
)
def test_the_prompt_never_exceeds_budget_or_window_and_every_candidate_is_accounted_for(
    counting_model: Any, sizes: list[int], budget: int, passages: int, window: int | None, output: int
) -> None:
    model = counting_model(window=window)
    answering, _ = answers(model, sizes, ContextRule(budget, passages, candidates=8))
    reply = asyncio.run(answering.answer("p", request(max_tokens=output, return_prompt=True)))
    packing = reply["packing"]
    prompt = model.bodies[0]["messages"][-1]["content"]
    prompt_tokens = len(prompt.split()) + 1
    bare_tokens = len(["how", "so?"]) + 1

    assert packing["context_tokens"] == prompt_tokens - bare_tokens
    assert packing["context_tokens"] <= packing["budget"] <= budget
    if window is not None and packing["packed"]:
        assert prompt_tokens + output <= window
    assert len(packing["packed"]) <= passages
    assert packing["packed"] == sorted(packing["packed"])
    assert sorted(packing["packed"] + packing["dropped"]) == [f"c{n}" for n in range(len(sizes))]
    assert [source["id"] for source in reply["sources"]] == packing["packed"]
    for number, size in enumerate(sizes):  # whole or not at all
        block = f"t{number}\n{('word ' * size).strip()}\n"
        assert (block in prompt) == (f"c{number}" in packing["packed"])
    assert reply["prompt"] == prompt


def test_the_answer_carries_model_sources_and_packing(counting_model: Any) -> None:
    model = counting_model()
    answering, indexes = answers(model, [10, 500, 10, 10])
    earlier = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
    messages = [*earlier, {"role": "user", "content": " how so? "}]
    reply = ChatReply.model_validate(asyncio.run(answering.answer("p", request(messages=messages))))
    assert reply.model == "rag:docs@m"
    assert reply.packing == {
        "packed": ["c0", "c2", "c3"],
        "dropped": ["c1"],
        "context_tokens": reply.packing["context_tokens"] if reply.packing else 0,
        "budget": 384,
    }
    assert reply.sources is not None
    assert [(source["number"], source["rank"], source["id"]) for source in reply.sources] == [
        (1, 1, "c0"),
        (2, 3, "c2"),
        (3, 4, "c3"),
    ]
    assert reply.prompt is None
    assert indexes.asked == [("how so?", "hybrid", 8)]
    assert model.bodies[0]["model"] == "m"
    assert model.bodies[0]["messages"][:2] == earlier
    assert "retrieval" not in model.bodies[0]


def test_a_request_may_change_how_it_retrieves(counting_model: Any) -> None:
    answering, indexes = answers(counting_model(), [10, 10, 10])
    options = {"mode": "bm25", "passages": 1, "context_tokens": 50}
    reply = asyncio.run(answering.answer("p", request(retrieval=options)))
    assert reply["packing"]["packed"] == ["c0"]
    assert reply["packing"]["budget"] == 50
    assert indexes.asked[0][1] == "bm25"
    none = asyncio.run(answering.answer("p", request(retrieval={"context_tokens": 0})))
    assert none["packing"]["packed"] == []
    assert none["sources"] == []


def test_the_first_piece_of_a_stream_carries_the_sources(counting_model: Any) -> None:
    answering, _ = answers(counting_model(), [3, 3])

    async def collect() -> list[dict[str, Any]]:
        return [piece async for piece in await answering.stream("p", request(stream=True))]

    pieces = asyncio.run(collect())
    assert [source["id"] for source in pieces[0]["sources"]] == ["c0", "c1"]
    assert "sources" not in pieces[1]
    assert {piece["model"] for piece in pieces} == {"rag:docs@m"}


def test_sizes_of_passages_are_asked_once(counting_model: Any) -> None:
    model = counting_model()
    answering, _ = answers(model, [5, 5, 5])
    asyncio.run(answering.answer("p", request()))
    first = model.text_counts
    asyncio.run(answering.answer("p", request("another question?")))
    assert (first, model.text_counts) == (3, 3)


@pytest.mark.parametrize(
    ("values", "error", "param"),
    [
        ({"model": "m"}, InvalidInput, "model"),
        ({"model": "rag:missing@m"}, NotFound, "index"),
        ({"model": "rag:docs@unknown"}, NotFound, "model"),
        ({"question": "  "}, InvalidInput, "messages"),
        ({"question": "x" * 1_000_000}, TooLarge, "messages"),
        ({"messages": [{"role": "system", "content": "hi"}]}, InvalidInput, "messages"),
    ],
)
def test_bad_requests_name_their_field(
    counting_model: Any, values: dict[str, Any], error: type[Exception], param: str
) -> None:
    answering, _ = answers(counting_model(), [5])
    with pytest.raises(error) as raised:
        asyncio.run(answering.answer("p", request(**values)))
    assert raised.value.param == param  # type: ignore[attr-defined]
