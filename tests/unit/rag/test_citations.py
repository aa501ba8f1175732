"""Citations: which marks count, which passages they name, and whether the passage says it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_training.contracts.indexes import Chunk
from services.rag.adapters.bm25 import Bm25Encoder, Bm25Rule
from services.rag.domain.citations import check_citations, facts, marks, sentences
from tests.unit.rag.test_answers import answers, request

ENCODER = Bm25Encoder(Bm25Rule())
CHUNKED = Chunk(
    id="chunked",
    title="more_itertools.chunked",
    text="Break an iterable into lists of length n. With strict=True, raise ValueError if the last list is shorter.",
)
FIRST = Chunk(
    id="first", title="more_itertools.first", text="Return the first item of an iterable, or a default."
)
PACKED = {1: CHUNKED, 2: FIRST}


def terms(text: str) -> frozenset[int]:
    return frozenset(ENCODER.query(text).indices)


def check(answer: str, similarity: float = 0.0) -> Any:
    return check_citations(answer, PACKED, terms, lambda sentence, chunk: similarity)


def test_a_true_sentence_is_supported_and_a_false_one_is_not() -> None:
    report = check(
        "chunked breaks an iterable into lists [1]. It returns the weather of tomorrow morning [2]. It sorts."
    )
    assert [(one.number, one.supported) for one in report.cited] == [(1, True), (2, False)]
    assert report.precision == 0.5
    assert report.uncited == ["It sorts."]
    assert report.cited[0].id == "chunked"


def test_the_right_words_from_the_wrong_passage_do_not_count() -> None:
    assert check("The last list is shorter [1].").precision == 1.0
    assert check("The last list is shorter [2].").precision == 0.0


def test_a_passage_that_shares_words_does_not_stand_for_the_one_that_says_it() -> None:
    said = "Return the first item of an iterable, or raise if the iterable is empty"
    near = Chunk(id="one", title="one", text="Return the first item of an iterable, or raise ValueError.")
    exact = Chunk(id="first", title="first", text=f"{said}.")
    packed = {1: near, 2: exact}
    both = check_citations(f"{said} [1][2].", packed, terms, lambda sentence, chunk: 1.0)
    assert [(one.number, one.supported, one.better) for one in both.cited] == [(1, False, 2), (2, True, None)]


def test_numbers_and_code_names_must_stand_in_the_passage() -> None:
    report = check("Break an iterable into lists of length 7 [1].")
    assert report.cited[0].missing == ("7",)
    assert report.precision == 0.0
    assert check("Break an iterable into lists with `strict=True` [1].").precision == 1.0
    assert check("Break an iterable into lists with sliced_view [1].").cited[0].missing == ("sliced_view",)


def test_other_words_count_only_when_they_mean_the_same_and_share_some() -> None:
    said = "An iterable is cut to pieces [1]."
    assert check(said, similarity=0.3).precision == 0.0
    assert check(said, similarity=0.8).precision == 1.0
    assert check("Bananas grow in Ecuador [1].", similarity=0.8).precision == 0.0


def test_marks_of_passages_that_are_not_there_are_rejected_and_taken_out() -> None:
    report = check("It breaks an iterable into lists [1, 9]. And more lists [7].")
    assert report.rejected == [9, 7]
    assert report.text == "It breaks an iterable into lists [1]. And more lists."
    assert report.precision == pytest.approx(1 / 3)
    assert report.uncited == ["And more lists."]


@pytest.mark.parametrize("answer", ["Not in the sources.", "not in the sources", " **Not in the sources!** "])
def test_not_in_the_sources_is_an_answer(answer: str) -> None:
    report = check(answer)
    assert (report.in_sources, report.precision, report.uncited) == (False, None, [])


def test_code_holds_no_citation_and_is_not_touched() -> None:
    answer = "Use chunked [1]:\n```python\nrows[9] = [1, 2, 9]\n```\nthen `rows[9]` is an iterable [1]."
    report = check(answer)
    assert report.text == answer
    assert report.rejected == []
    assert {one.number for one in report.cited} == {1}


def test_sentences_keep_their_marks_wherever_they_stand() -> None:
    assert sentences("One [1]. Two. [2] Three![1][2]\nFour") == [
        "One [1].",
        "Two. [2]",
        "Three![1][2]",
        "Four",
    ]
    assert marks("a [1][2, 1] b") == [1, 2]
    assert facts("`a b` has 3.5 or max_size of 12") == ["a b", "3.5", "max_size", "12"]


@given(st.text(alphabet="ab .[]12,9`\n!", max_size=80))
def test_no_answer_breaks_the_check_and_precision_is_a_share(answer: str) -> None:
    report = check(answer)
    assert report.precision is None or 0 <= report.precision <= 1
    assert all(number in PACKED for one in report.cited for number in [one.number])
    assert all(number not in PACKED for number in report.rejected)
    assert check(report.text).rejected == []


def test_an_answer_reports_its_citations_and_a_stream_does_at_its_end(counting_model: Any) -> None:
    answering, _ = answers(counting_model(), [3, 3])
    asked = request(retrieval={"citations": True, "passages": 1})
    reply = asyncio.run(answering.answer("p", asked))
    assert reply["citations"]["citation_precision"] is not None
    assert "write only: Not in the sources." in reply["choices"][0]["message"]["content"]

    async def collect() -> list[dict[str, Any]]:
        return [
            piece async for piece in await answering.stream("p", asked.model_copy(update={"stream": True}))
        ]

    pieces = asyncio.run(collect())
    assert [("citations" in piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1]["choices"] == []
    assert "sources" in pieces[0]


def test_without_a_source_no_model_is_asked(counting_model: Any) -> None:
    model = counting_model()
    answering, _ = answers(model, [3, 3])
    asked = request(retrieval={"citations": True, "filter": {"id": "nothing"}})
    reply = asyncio.run(answering.answer("p", asked))
    assert reply["choices"][0]["message"]["content"] == "Not in the sources."
    assert reply["citations"]["in_sources"] is False
    assert model.bodies == []

    async def collect() -> list[dict[str, Any]]:
        return [piece async for piece in await answering.stream("p", asked)]

    assert asyncio.run(collect())[0]["choices"][0]["delta"]["content"] == "Not in the sources."
    plain = asyncio.run(answering.answer("p", request(retrieval={"filter": {"id": "nothing"}})))
    assert plain["packing"]["packed"] == []
    assert len(model.bodies) == 1
