"""How numbers are put into sentences."""

from __future__ import annotations

from model_training.contracts.comparisons import ArmResult, PairResult


def points(value: float) -> str:
    """A difference of rates in percentage points, with its sign: `+12.5 points`."""
    return f"{_signed(value)} points"


def span(pair: PairResult) -> str:
    """A pair's interval in points: `[+2.1, +22.4]`."""
    return f"[{_signed(pair.ci_low)}, {_signed(pair.ci_high)}]"


def _signed(rate: float) -> str:
    text = f"{100 * rate:+.1f}"
    return "0.0" if float(text) == 0 else text


def p_value(p: float) -> str:
    """`p = 0.031`, and `p < 0.001` below that."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def score_of(arm: ArmResult) -> str:
    """`45 of 200 (22.5%)`."""
    return f"{arm.correct} of {arm.n} ({arm.pass_rate:.1%})"


def evidence(pair: PairResult) -> str:
    """`+12.5 points [+2.1, +22.4], adjusted p = 0.031`."""
    return f"{points(pair.difference)} {span(pair)}, adjusted {p_value(pair.p_adjusted)}"


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def items(count: int, kind: str = "") -> str:
    """`1 item`, `1,200 items`, `40 more items`."""
    return f"{count:,} {kind}item{'' if count == 1 else 's'}"
