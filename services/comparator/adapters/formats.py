"""How values look on a page. Pure functions, used as template filters."""

from __future__ import annotations

import re
from typing import Any

from model_training.contracts.comparisons import BreakEven
from services.comparator.domain.break_even import when
from services.comparator.domain.costs import dollars
from services.comparator.domain.words import p_value

FILTERS = (
    "percent",
    "measured",
    "signed_points",
    "signed_score",
    "probability",
    "bare_p",
    "seconds",
    "usd",
    "money",
    "pays",
    "number",
    "visible",
    "cut",
    "cell",
    "plain",
    "label",
)

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_CELL = str.maketrans({"|": "\\|", "`": "'", "\n": " ", "\r": " "})
_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def percent(rate: float) -> str:
    """`22.5%`."""
    return f"{100 * rate:.1f}%"


def measured(value: float | None, unit: str) -> str:
    """A figure of a dimension in its unit; a dash where there is none."""
    if value is None:
        return "–"
    shown = {"share": percent, "seconds": seconds, "usd": dollars, "score": "{:.3f}".format}
    return shown.get(unit, "{:,.1f}".format)(value)


def signed_points(difference: float) -> str:
    """`+12.5` with a real minus sign; never `-0.0`."""
    return f"{_zero(100 * difference, 1):+.1f}".replace("-", "−")


def signed_score(difference: float) -> str:
    """`+0.125` with a real minus sign."""
    return f"{_zero(difference, 3):+.3f}".replace("-", "−")


def _zero(value: float, digits: int) -> float:
    return 0.0 if round(value, digits) == 0 else value


def probability(p: float) -> str:
    """`p = 0.031` or `p < 0.001`."""
    return p_value(p)


def bare_p(p: float) -> str:
    """`0.0312` or `<0.0001`, for a table's column."""
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def seconds(value: float | None) -> str:
    """`0.42 s`, `3.1 s`, `7 min 26 s`; a dash for what is not known."""
    if value is None:
        return "–"
    if value < 1:
        return f"{value:.2f} s"
    if value < 100:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def usd(amount: float | None) -> str:
    """`$0.10`, `$0.0042`; a dash for what is not known."""
    return "–" if amount is None else dollars(amount)


def money(amount: float) -> str:
    """`$4.80`, `−$0.35`: dollars of either sign, to the cent, or to two digits where they are less."""
    return f"−{dollars(-amount)}" if amount < 0 else dollars(amount)


def pays(found: BreakEven) -> str:
    """When an arm has paid for itself, without the sentence around it."""
    return when(found)


def number(value: float | None) -> str:
    """`12,345`; a dash for what is not known."""
    return "–" if value is None else f"{value:,.0f}"


def visible(text: str) -> str:
    """Control and direction characters as `�`-like marks, so that no answer can hide or turn the page's text."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def cut(text: str, limit: int = 6000) -> str:
    """The first `limit` characters, saying how many are missing."""
    return text if len(text) <= limit else f"{text[:limit]}\n… {len(text) - limit:,} more characters"


def cell(text: str) -> str:
    """Text that is safe in a Markdown table: on one line, without cells, code or tags of its own."""
    return _TAG.sub("&lt;", visible(text)).translate(_CELL)


def plain(value: Any) -> str:
    """A fact's value: numbers with separators, floats short, true and false as yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(plain(entry) for entry in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{label(str(key))} {plain(entry)}" for key, entry in value.items()) or "none"
    return str(value)


def label(key: str) -> str:
    """A field's name as words: `train_loss` becomes `train loss`."""
    return key.replace("_", " ").strip()
