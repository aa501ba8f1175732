"""The rules of generated text and of the window, for any tokens and any stop texts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.domain.generation import ContextTooLong, check_window, common_prefix
from services.inference.domain.text import TextAssembler

TEXTS = st.text(alphabet="ab\n é🤖", max_size=30)


def decode_bytes(ids: object) -> str:
    return bytes(ids).decode("utf-8", errors="replace")  # type: ignore[call-overload]


@settings(deadline=None)
@given(text=TEXTS, stop=st.lists(st.text(alphabet="ab\n é", min_size=1, max_size=4), max_size=3))
def test_pieces_join_to_the_text_before_the_first_stop(text: str, stop: list[str]) -> None:
    assembler = TextAssembler(decode_bytes, stop)
    pieces: list[str] = []
    for byte in text.encode():  # one token a byte: every character of more than one byte comes in parts
        pieces.append(assembler.add(byte))
        if assembler.stopped:
            break
    pieces.append(assembler.finish())
    cuts = [text.index(s) for s in stop if s in text]
    joined = "".join(pieces)
    assert "\ufffd" not in joined
    if not cuts:
        assert joined == text
    else:
        assert assembler.stopped
        assert joined == text[: min_first_end(text, stop)]


def min_first_end(text: str, stop: list[str]) -> int:
    """Where the stop text that is complete first begins: a stream cannot wait for a longer one."""
    ends = {text.index(s) + len(s): None for s in stop if s in text}
    first = min(ends)
    return min(text.index(s) for s in stop if s in text[:first])


def test_bytes_that_are_no_character_come_out_in_the_end() -> None:
    assembler = TextAssembler(decode_bytes, [])
    assert [assembler.add(byte) for byte in b"a\xf0"] == ["a", ""]
    assert assembler.finish() == "\ufffd"


@settings(deadline=None)
@given(prompt=st.integers(1, 50), wanted=st.none() | st.integers(1, 50), window=st.integers(2, 60))
def test_prompt_and_answer_always_fit_the_window(prompt: int, wanted: int | None, window: int) -> None:
    if prompt + (wanted or 1) > window:
        with pytest.raises(ContextTooLong, match=rf"has {prompt} tokens.*\b{window}\b"):
            check_window(prompt, wanted, window, default_max=16)
        return
    granted = check_window(prompt, wanted, window, default_max=16)
    assert 1 <= granted <= window - prompt
    assert wanted in (None, granted)


@pytest.mark.parametrize(
    ("left", "right", "length"), [([], [1], 0), ([1, 2], [1, 3], 1), ([1, 2], [1, 2, 3], 2)]
)
def test_common_prefix(left: list[int], right: list[int], length: int) -> None:
    assert common_prefix(left, right) == length
