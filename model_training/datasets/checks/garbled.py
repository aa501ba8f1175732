"""Finds text that was decoded wrongly before it came here, or that holds characters nobody can see."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]")
_MOJIBAKE = re.compile(
    "[\u00c2\u00c3][\u0080-\u00bf]|\u00e2\u20ac[\u0153\u009d\u2122\u201c\u201d\u02dc\u00a6]|\u00ef\u00bb\u00bf"
)


def garbled(text: str) -> str | None:
    """What is wrong with the characters of a text; None if nothing is."""
    if found := _CONTROL.search(text):
        return f"holds the control character U+{ord(found.group()):04X} at character {found.start() + 1}"
    if text.isascii():
        return None
    if (at := text.find("\ufffd")) >= 0:
        return f"holds U+FFFD at character {at + 1}: what stood there was lost when the text was decoded"
    if found := _MOJIBAKE.search(text):
        where = f"{found.group()!r} at character {found.start() + 1}"
        return f"looks like UTF-8 that was read as another encoding: {where}"
    return None


def surrogate(text: str) -> int | None:
    """Where a text has a lone surrogate, from 1: no encoding can write it. None if it has none."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start + 1
    return None
