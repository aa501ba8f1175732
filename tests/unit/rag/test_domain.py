"""The rules of retrieval, as laws where there is one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import InvalidInput, TooLarge
from model_training.contracts.chat import ChatMessage
from model_training.contracts.indexes import Chunk
from services.rag.domain import packing, passages, search


def row(**values: object) -> bytes:
    return json.dumps({"id": "a", "title": "t", "text": "x"} | values).encode()


@given(
    sizes=st.lists(st.integers(1, 500), max_size=30),
    budget=st.integers(0, 2000),
    limit=st.integers(1, 10),
)
def test_choosing_keeps_order_budget_and_limit_and_passes_over_only_what_does_not_fit(
    sizes: list[int], budget: int, limit: int
) -> None:
    taken = packing.choose(sizes, budget, limit)
    assert taken == sorted(set(taken))
    assert sum(sizes[i] for i in taken) <= budget
    assert len(taken) <= limit
    for position in range(len(sizes)):
        before = [i for i in taken if i < position]
        if position not in taken and len(before) < limit:
            assert sum(sizes[i] for i in before) + sizes[position] > budget


@given(st.integers(0, 1000), st.none() | st.integers(0, 5000), st.integers(0, 3000), st.integers(1, 1000))
def test_the_budget_leaves_room_for_question_and_answer(
    wanted: int, window: int | None, question: int, output: int
) -> None:
    budget = packing.context_budget(wanted, window, question, output)
    assert 0 <= budget <= wanted
    if window is not None and budget > 0:
        assert budget + question + output <= window


@pytest.mark.parametrize(
    "name", ["gemma-3-270m", "rag:docs", "rag:@gemma", "rag:docs@", "tag:docs@gemma", ""]
)
def test_a_name_of_another_form_is_refused_with_the_form(name: str) -> None:
    with pytest.raises(InvalidInput) as error:
        search.parse_model(name)
    assert error.value.param == "model"
    assert "rag:<index" in (error.value.hint or "")


def test_a_retrieval_model_is_index_and_model() -> None:
    assert search.parse_model("rag:my-docs@model_01:x") == search.RagModel("my-docs", "model_01:x")


def test_a_missing_index_is_answered_with_near_names() -> None:
    assert "docs-v2" in search.near_names("docs-v1", ["docs-v2", "zebra"])
    assert "zebra" not in search.near_names("docs-v1", ["docs-v2", "zebra"])
    assert "zebra" in search.near_names("qqq", ["zebra"])
    assert "no index yet" in search.near_names("docs", [])


def test_queries_are_checked() -> None:
    assert search.checked_query("  how? \n") == "how?"
    with pytest.raises(InvalidInput, match="empty"):
        search.checked_query(" \n\t ")
    with pytest.raises(TooLarge, match="1,000,000"):
        search.checked_query("x" * 1_000_000)


def test_every_broken_row_is_named_with_its_row_and_file() -> None:
    lines = [
        b"\xef\xbb\xbf" + row(id="1"),
        b"",
        b'{"id": "2", "title": ',
        row(id="3", text=""),
        row(id="4", text="  "),
        row(id="5", txt="typo"),
        b'{"id": "6", "title": "\xff", "text": "x"}',
        row(id="1"),
        row(id="1", text="another"),
        row(id="7"),
        b"[1, 2]",
    ]
    result = passages.read_chunks([("a.jsonl", lines)])
    assert [chunk.id for chunk in result.chunks] == ["1", "7"]
    assert result.duplicates == 1
    assert [(fault.row, fault.field) for fault in result.faults] == [
        (3, None),
        (4, "text"),
        (5, "text"),
        (6, "txt"),
        (7, None),
        (9, "id"),
        (11, None),
    ]
    assert all(fault.message.startswith("a.jsonl: ") for fault in result.faults)
    assert "not UTF-8 at byte" in result.faults[4].message


def test_faults_are_capped_but_reading_goes_on() -> None:
    result = passages.read_chunks([("a.jsonl", [b"{" for _ in range(500)] + [row()])])
    assert len(result.faults) == passages.MAX_FAULTS
    assert len(result.chunks) == 1


def test_context_goes_into_the_last_question_only() -> None:
    turns = [
        ChatMessage(role="user", content="first?"),
        ChatMessage(role="assistant", content="yes"),
        ChatMessage(role="user", content="second?"),
    ]
    chunks = [Chunk(id="a", title="T1", text="body one\n"), Chunk(id="b", title="T2", text="body two")]
    told = packing.with_context(turns, chunks)
    assert told[:2] == turns[:2]
    content = told[2].content
    assert content.endswith("second?")
    assert content.index("[1] T1\nbody one") < content.index("[2] T2\nbody two") < content.index("second?")
    assert packing.with_context(turns, []) == turns


def test_a_conversation_without_a_question_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no user message"):
        packing.last_question([ChatMessage(role="system", content="be kind")])
