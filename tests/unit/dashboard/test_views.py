"""What playground, comparisons, retrieval and monitoring show, worked out without a page."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_training.contracts.chat import Usage
from model_training.contracts.comparisons import BreakEven, Prices, Profile
from model_training.contracts.indexes import Chunk, Index, QueryHit
from model_training.contracts.jobs import JobState
from model_training.contracts.models import ModelObject
from model_training.contracts.monitoring import History, HistoryPoint, HistorySeries
from model_training.contracts.retrieval import SearchOptions
from services.dashboard.parts.answers import visible
from services.dashboard.parts.choices import arm_models, arm_name, usual_arms
from services.dashboard.views.arm_figures import cost_usd, figures
from services.dashboard.views.evaluation_sets import item_of, joined
from services.dashboard.views.highlight import highlight
from services.dashboard.views.item_filter import ItemFilter
from services.dashboard.views.legs import described, labelled, standings
from services.dashboard.views.scales import axis_over, points, usd
from services.dashboard.views.spans import curves
from services.dashboard.views.uses import MACHINE_HOUR_USD, WRONG_USD, nearest, pays, question
from services.dashboard.views.worddiff import word_diff

NOW = datetime(2026, 11, 23, tzinfo=UTC)
TEXTS = st.text(alphabet="abc _.()\n<é", max_size=120)


@given(text=TEXTS, passage=TEXTS)
def test_a_highlighted_text_is_the_text_itself(text: str, passage: str) -> None:
    assert "".join(span.text for span in highlight(text, {1: passage, 2: text})) == text


def test_words_are_marked_by_the_passage_that_holds_the_longest_run() -> None:
    spans = highlight(
        "It breaks an iterable into lists.", {1: "breaks an iterable", 2: "breaks an iterable into lists"}
    )
    assert [(span.text, span.source) for span in spans] == [
        ("It ", None),
        ("breaks an iterable into lists", 2),
        (".", None),
    ]
    assert highlight("a b c", {1: "a b c"})[0].source is None  # three letters say nothing
    assert highlight("see toolz.groupby here", {1: "toolz.groupby(f, x)"})[1].source == 1


@given(first=TEXTS, second=TEXTS)
def test_a_word_difference_leads_from_one_text_to_the_other(first: str, second: str) -> None:
    runs = word_diff(first, second)
    if runs:
        assert "".join(run.text for run in runs if run.kind != "added") == first
        assert "".join(run.text for run in runs if run.kind != "missing") == second


def test_texts_with_little_in_common_are_not_compared() -> None:
    assert word_diff("list(chunked(x, 2))", "Nothing of the kind whatsoever is here to be seen") == []


@given(st.lists(st.floats(-1e6, 1e6), max_size=8))
def test_an_axis_holds_zero_and_every_value(values: list[float]) -> None:
    axis = axis_over(values)
    low, high = min([0.0, *values]), max([0.0, *values])
    near = 1e-6 * (high - low) + 1e-200
    assert axis.ticks[0] <= low + near
    assert axis.ticks[-1] >= high - near
    assert 2 <= len(axis.ticks) <= 9
    assert all(0 <= axis.at(value) <= 100 for value in values)


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (None, "–"),
        (0, "$0"),
        (1204.5, "$1,204.50"),
        (-0.35, "−$0.35"),
        (0.0042, "$0.0042"),
        (1e-20, "$0.000000000000"),
    ],
)
def test_money_in_words(amount: float | None, said: str) -> None:
    assert usd(amount) == said


def test_a_difference_that_rounds_to_nothing_has_no_minus() -> None:
    assert (points(-0.0001), points(0.2), points(-0.125)) == ("+0.0", "+20.0", "−12.5")


def test_the_address_holds_the_filter() -> None:
    asked = {"outcome": "disagree", "won": "tuned+rag", "search": "a&b=<c>", "page": "3", "item": "7"}
    found = ItemFilter.of(asked)
    assert found.address("/x") == "/x?outcome=disagree&won=tuned%2Brag&search=a%26b%3D%3Cc%3E&page=3&item=7"
    assert found.offset == 50
    assert found.changed(suite="qa") == ItemFilter("disagree", "qa", "", "tuned+rag", "", "a&b=<c>")
    assert found.changed(page=4).item == 7
    assert ItemFilter.of({"outcome": "nonsense", "page": "-1", "item": "x"}) == ItemFilter()
    assert ItemFilter().address("/x") == "/x"


def test_sliders_begin_where_the_report_stands_and_ask_for_what_they_show() -> None:
    assert MACHINE_HOUR_USD[nearest(MACHINE_HOUR_USD, 0.11)] == 0.1
    assert nearest(WRONG_USD, 1e9) == len(WRONG_USD) - 1
    asked = question(Prices(million_prompt_tokens_usd=3), Profile(name="x"), machine=5, wrong=7, month=2)
    assert asked.prices == Prices(million_prompt_tokens_usd=3, machine_hour_usd=0.5, wrong_answer_usd=0.1)
    assert asked.profiles is not None
    assert (asked.profiles[0].wrong_answer_usd, asked.profiles[0].questions_per_month) == (0.1, 1000)


@pytest.mark.parametrize(
    ("questions", "low", "high", "said"),
    [
        (None, None, None, "never"),
        (0.0, 0.0, 0.0, "from the first question"),
        (498.0, 434.0, 582.0, "after about 498 questions (95%: 434 to 582)"),
        (None, 20.0, None, "perhaps after 20 questions at the earliest, perhaps never"),
    ],
)
def test_when_it_pays(questions: float | None, low: float | None, high: float | None, said: str) -> None:
    found = BreakEven(
        a="a", b="b", extra_fixed_usd=1, saving_usd=1, saving_low=None, saving_high=None, questions=questions,
        low=low, high=high, words="",
    )  # fmt: skip
    assert pays(found) == said


def test_an_answer_s_figures() -> None:
    usage = Usage(prompt_tokens=1_380, completion_tokens=41, total_tokens=1_421)
    assert figures(0.5, 2.5, usage, Prices()) == (
        "first word 0.50 s · 2.50 s · 1,380 tokens read, 41 written (20 a second) · $0.000069"
    )
    assert cost_usd(3600, usage, Prices(million_completion_tokens_usd=1e6)) == pytest.approx(41.10)
    assert figures(None, None, None, Prices()) == ""


def test_a_question_joins_its_set_once() -> None:
    one, other = item_of("What?", "This."), item_of(" What? ", "That.")
    assert one.id == other.id
    rows = [json.loads(line) for line in joined(joined(b'{"id": "x"}\n', one), other).splitlines()]
    assert [row["id"] for row in rows] == ["x", one.id]
    assert rows[1]["answer"] == "That."


def hit(name: str, rank: int, score: float) -> QueryHit:
    return QueryHit(rank=rank, score=score, chunk=Chunk(id=name, title=name, text=name))


def test_passages_stand_in_the_merged_order_then_those_of_single_legs() -> None:
    found = standings(
        {
            "hybrid": [hit("b", 1, 0.5), hit("a", 2, 0.4)],
            "dense": [hit("a", 1, 0.9)],
            "bm25": [hit("c", 1, 12.0)],
        }
    )
    assert [one.chunk.id for one in found] == ["b", "a", "c"]
    assert (found[1].said("dense"), found[1].said("bm25"), found[2].said("bm25")) == (
        "1 · 0.9",
        "–",
        "1 · 12",
    )


def test_a_way_to_search_in_words_and_items_as_questions() -> None:
    assert described(None) == "hybrid, the platform's default"
    assert described(SearchOptions(mode="hybrid", fusion="dbsf")) == "hybrid, merged by scores (dbsf)"
    row = {"id": "q", "question": "What?", "group": "toolz.f", "form": "what_does"}
    (found,) = labelled(json.dumps(row).encode())
    assert (found.functions, found.kind) == (["toolz.f"], "what_does")


def test_the_usual_arms_are_four_where_there_are_a_tuned_model_and_an_index() -> None:
    base = ModelObject(id="gemma-3-270m", created=1)
    tuned = ModelObject(id="model_01", created=2, root="gemma-3-270m")
    refused = ModelObject(id="model_02", created=3, root="gemma-3-270m", state="refused")
    index = Index(id="idx_1", name="docs", state=JobState.SUCCEEDED, created_at=NOW, embedder="minilm")
    building = index.model_copy(update={"name": "other", "state": JobState.RUNNING})
    assert usual_arms([refused, tuned, base], [building, index]) == [
        "gemma-3-270m", "rag:docs@gemma-3-270m", "model_01", "rag:docs@model_01",
    ]  # fmt: skip
    assert usual_arms([base], []) == ["gemma-3-270m"]
    assert arm_models([refused, tuned, base], [building])[:2] == ["model_01", "gemma-3-270m"]
    assert (arm_name("rag:docs@model_01"), arm_name("model_01")) == ("model_01+docs", "model_01")


def test_histories_become_curves_by_their_labels() -> None:
    points_ = [HistoryPoint(at=NOW, mean=0.5, low=0.4, high=0.6)]
    found = History(
        metric="m",
        resolution_s=60,
        series=[HistorySeries(labels={"gpu": "0"}, points=points_), HistorySeries(labels={"gpu": "1"})],
    )
    assert curves(found, factor=100) == {"0": [(int(NOW.timestamp() * 1000), 50.0)]}


def test_what_hides_or_turns_text_becomes_visible() -> None:
    assert visible("a\u202eb\x00c\n") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c\n"
    assert visible("x" * 20_005).endswith("… 5 more characters")
