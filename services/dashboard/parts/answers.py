"""Texts of models, passages they were given, and differences between texts. All of it stays text, whatever it looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from services.dashboard.views.highlight import Span, highlight
from services.dashboard.views.worddiff import Run

SHOWN_CHARACTERS = 20_000


def answer(text: str) -> ui.label:
    """A model's text as it is."""
    return ui.label(visible(text)).classes("answer").props('tabindex="0"')


def spans(found: Sequence[Span]) -> None:
    """A text with the words marked that stand in a passage; a mark says in which."""
    with ui.element("div").classes("answer").props('tabindex="0"'):
        for span in found:
            label = ui.label(visible(span.text))
            if span.source is not None:
                label.classes("mark").tooltip(f"in passage {span.source}")


def differences(runs: Sequence[Run]) -> None:
    """Words that are missing and words that are too many, told apart by their lines as well as by colour."""
    with ui.element("div").classes("answer").props('tabindex="0"'):
        for run in runs:
            ui.label(visible(run.text)).classes("" if run.kind == "same" else f"diff-{run.kind}")
    ui.label("dashed underline: missing · struck through: too much").classes("soft small")


def sources(passages: Sequence[Mapping[str, Any]], said: str = "") -> None:
    """The passages of an answer, folded; the words that the answer uses are marked."""
    for passage in passages:
        number, title = (
            int(passage.get("number", 0)),
            str(passage.get("title") or passage.get("id") or "passage"),
        )
        with ui.expansion(visible(f"[{number}] {title}")).classes("w-full").props("dense"):
            ui.label(visible(place(passage))).classes("soft small wrap")
            spans(highlight(str(passage.get("text") or ""), {number: said}))


def place(passage: Mapping[str, Any]) -> str:
    """Where a passage comes from, and its score."""
    where: Mapping[str, Any] = passage.get("source") or {}
    path, line = where.get("path") or where.get("url") or where.get("package") or "", where.get("line_start")
    at = f"{path}:{line}" if path and line else str(path)
    score = passage.get("score")
    return " · ".join(part for part in (at, f"score {score:.3g}" if isinstance(score, float) else "") if part)


def visible(text: str) -> str:
    """Text without characters that hide or turn what stands around them, cut where nobody reads any more."""
    shown = "".join(
        "\N{REPLACEMENT CHARACTER}" if _hides(letter) else letter for letter in text[:SHOWN_CHARACTERS]
    )
    more = len(text) - SHOWN_CHARACTERS
    return shown if more <= 0 else f"{shown}\n… {more:,} more characters"


def _hides(letter: str) -> bool:
    code = ord(letter)
    return (
        (code < 32 and letter not in "\n\t")
        or 0x7F <= code <= 0x9F
        or code in (0x061C, 0x200E, 0x200F, 0xFEFF)
        or 0x202A <= code <= 0x202E
        or 0x2066 <= code <= 0x2069
    )
