"""After how many questions an arm that costs more to set up has paid for itself, with a set that admits "never".

Break-even N = F / s: F what the arm costs more up front, which was spent and is known, s what it saves per question,
which is estimated and may have either sign. A 95% interval of s, turned over, is a 95% set of N, the ends swapped: it
is Fieller's set for a ratio whose numerator is known. Where the interval of s holds zero the set has no upper end, and
"never" is in it. Source: Fieller, "Some problems in interval estimation", JRSS B 16 (1954).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import combinations

import numpy as np

from libs.common.statistics.bootstrap import bootstrap_mean
from libs.common.statistics.clusters import Floats
from libs.common.statistics.intervals import Interval
from model_training.contracts.comparisons import BreakEven, Prices
from services.comparator.domain.arms import PairedItems
from services.comparator.domain.costs import dollars
from services.comparator.domain.economics import Setup, losses

NEGLIGIBLE_USD = 1e-12


def break_even(
    names: tuple[str, str],
    extra_fixed_usd: float,
    savings: Floats,
    groups: Sequence[Hashable],
    *,
    seed: int = 0,
) -> BreakEven:
    """The break-even of arm `names[1]` against `names[0]`.

    Args:
        extra_fixed_usd: what the second arm costs more before its first answer, at least zero.
        savings: what each question costs less with it, shape (items,).
        groups: items of one group are drawn together.
    """
    interval = bootstrap_mean(savings, groups, seed=seed)
    saving = float(np.mean(savings))
    low, high = _turned_over(extra_fixed_usd, interval)
    outcome = BreakEven(
        a=names[0],
        b=names[1],
        extra_fixed_usd=extra_fixed_usd,
        saving_usd=saving,
        saving_low=interval.low if math.isfinite(interval.low) else None,
        saving_high=interval.high if math.isfinite(interval.high) else None,
        questions=_questions(extra_fixed_usd, saving),
        low=low,
        high=high,
        words="",
    )
    return outcome.model_copy(update={"words": _words(outcome)})


def _questions(fixed: float, saving: float) -> float | None:
    if fixed <= NEGLIGIBLE_USD:
        return 0.0 if saving >= 0 else None
    return fixed / saving if saving > 0 else None


def _turned_over(fixed: float, saving: Interval) -> tuple[float | None, float | None]:
    """The fewest and the most questions; None for "never"."""
    return _questions(fixed, saving.high), _questions(fixed, saving.low)


def _words(found: BreakEven) -> str:
    up_front = (
        f"{found.b} costs {dollars(found.extra_fixed_usd)} more than {found.a} before its first answer"
        if found.extra_fixed_usd > NEGLIGIBLE_USD
        else f"{found.b} costs nothing more than {found.a} before its first answer"
    )
    each = f"{dollars(1000 * abs(found.saving_usd))} {'less' if found.saving_usd >= 0 else 'more'} per 1,000 questions"
    return f"{up_front}, and {each}: {when(found)}."


def when(found: BreakEven) -> str:
    """When the second arm has paid for itself: `it pays for itself after about 1,525 questions (95%: …)`."""
    if found.low is None:
        return "it never pays for itself"
    if found.high == 0:
        return "it pays from the first question"
    if found.high is None:
        start = (
            f"after {found.low:,.0f} questions at the earliest" if found.low else "from the first question"
        )
        return f"it may pay {start}, or never; these items do not tell"
    measured = f"about {found.questions:,.0f}" if found.questions is not None else "some"
    return f"it pays for itself after {measured} questions (95%: {found.low:,.0f} to {found.high:,.0f})"


def break_evens(items: PairedItems, setup: Setup, prices: Prices, seed: int) -> list[BreakEven]:
    """Every pair, the arm that costs more up front second; without items there is none."""
    if not items.ids:
        return []
    fixed = {arm.name: setup.cost_of(arm, prices) for arm in items.arms}
    lost = {arm.name: losses(arm, items, prices) for arm in items.arms}
    pairs = [
        (a.name, b.name) if fixed[a.name] <= fixed[b.name] else (b.name, a.name)
        for a, b in combinations(items.arms, 2)
    ]
    return [
        break_even((a, b), fixed[b] - fixed[a], lost[a] - lost[b], items.groups, seed=seed) for a, b in pairs
    ]
