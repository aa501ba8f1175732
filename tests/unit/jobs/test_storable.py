"""Whatever a child says becomes JSON that PostgreSQL takes."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from libs.common.jobs.storable import storable

any_text = st.text(st.characters(exclude_categories=[]), max_size=20)  # surrogates and NUL are in it
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_the_result_is_strict_json_without_what_postgresql_refuses(value: Any) -> None:
    text = json.dumps(storable(value), ensure_ascii=False, allow_nan=False)
    text.encode("utf-8")  # raises for a lone surrogate
    assert "\\u0000" not in text


@given(values)
def test_cleaning_twice_changes_nothing_more(value: Any) -> None:
    assert storable(storable(value)) == storable(value)


clean_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


@given(st.dictionaries(clean_text, st.floats(allow_nan=False, allow_infinity=False) | clean_text))
def test_what_can_be_stored_stays_as_it_is(value: Any) -> None:
    assert storable(value) == value


def test_what_it_puts_in_place() -> None:
    assert storable({"a\x00": ["\ud800b", 1, None, math.nan, -math.inf], "t": (1, 2)}) == {
        "a\ufffd": ["?b", 1, None, None, None],
        "t": [1, 2],
    }
