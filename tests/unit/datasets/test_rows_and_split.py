"""Rows in every shape, and the law of the split."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_training.contracts.evaluations import CallCheck
from model_training.datasets.rows import RowError, TrainingRow, parse_row, read_rows
from model_training.datasets.split import split_rows
from model_training.errors import UserError


def test_a_check_is_read_and_another_programs_column_of_that_name_is_not() -> None:
    row = {"question": "q", "answer": "a"}
    check = {"type": "call", "package": "toolz", "expected": "1"}
    assert parse_row(row | {"check": check}).check == CallCheck(package="toolz", expected="1")
    for other in ("yes", True, None, {"passed": 3}, {"type": "lint"}, [check]):
        assert parse_row(row | {"check": other}).check is None
    with pytest.raises(RowError) as refused:
        parse_row(row | {"check": {"type": "call", "package": "toolz"}})
    assert refused.value.field == "check.call.expected"


def test_shapes_become_the_same_row():
    wanted = ("Hi", "Hello")
    rows = [
        parse_row({"question": "Hi", "answer": "Hello"}),
        parse_row({"prompt": "Hi", "completion": "Hello"}),
        parse_row(
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
        ),
    ]
    assert [(row.question, row.answer) for row in rows] == [wanted] * 3


def test_a_conversation_keeps_its_earlier_turns():
    turns = [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Bye"),
        ("assistant", "Goodbye"),
    ]
    row = parse_row({"messages": [{"role": role, "content": text} for role, text in turns]})
    assert [(turn.role, turn.content) for turn in row.messages] == turns
    assert row.question == "Bye"


def test_reading_stops_at_a_bad_row_and_says_which(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        json.dumps({"question": "a", "answer": "b"}) + "\n\n" + json.dumps({"question": "a"}),
        encoding="utf-8",
    )
    rows = read_rows(path)
    assert next(rows).id == "row-1"
    with pytest.raises(UserError, match="row 3, field answer") as caught:
        next(rows)
    assert "mt dataset check" in (caught.value.hint or "")


def make(groups: list[int]) -> list[TrainingRow]:
    return [
        TrainingRow(id=str(number), question=f"q{number}", answer="a", function=f"f{group}")
        for number, group in enumerate(groups)
    ]


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=80), st.floats(0, 0.9), st.integers(0, 5), st.randoms()
)
def test_the_split_keeps_groups_whole_and_forgets_the_order(groups, fraction, seed, shuffler):
    rows = make(groups)
    split = split_rows(rows, fraction, seed)
    assert sorted(row.id for row in split.train + split.validation) == sorted(row.id for row in rows)
    assert not {row.function for row in split.train} & {row.function for row in split.validation}
    assert split.train
    assert bool(split.validation) == (fraction > 0 and len(set(groups)) > 1)
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    again = split_rows(shuffled, fraction, seed)
    assert {row.id for row in again.validation} == {row.id for row in split.validation}


def test_the_share_is_about_what_was_asked():
    rows = make([number % 100 for number in range(1000)])
    assert 80 <= len(split_rows(rows, 0.1, 0).validation) <= 120
    assert split_rows(rows, 0.1, 0).validation != split_rows(rows, 0.1, 1).validation


def test_rows_that_are_marked_are_followed():
    rows = make([1, 1, 1])
    rows[1] = rows[1].model_copy(update={"split": "validation"})
    assert [row.id for row in split_rows(rows, 0.1, 0).validation] == ["1"]
    assert split_rows(rows, 0, 0).validation == []


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5])
def test_an_impossible_share_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction"):
        split_rows(make([1, 2]), fraction, 0)
