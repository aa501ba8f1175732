"""What keeping an arm up to date costs: how often the library changed, by its index's versions, times what a change costs.

A library's changes leave a trace where its passages are indexed again. Rebuilding without a change leaves none, several
versions of one day are one change, and the time since the last change counts too. A trained model is taken to be
trained again, whole, at each of them, since nobody can say which change it could do without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from libs.common.statistics.intervals import poisson_interval
from model_training.contracts.comparisons import Prices, Profile, Upkeep, UpkeepCost
from services.comparator.domain.arms import RAG_PREFIX, Arm
from services.comparator.domain.costs import dollars
from services.comparator.domain.economics import Setup

MONTH_DAYS = 365.25 / 12
LEAST_DAYS = 14.0
LEAST_CHANGES = 2
"""A rate seen over fewer days or changes is shown, and not reckoned with."""
ASSUMED_CHANGES = 1.0
"""A month, where nothing better is known."""


@dataclass(frozen=True)
class IndexVersion:
    """One version of an index: when it was there, what building it took, and its passages, where that is known."""

    at: datetime
    seconds: float
    embedded: int | None = None
    reused: int | None = None
    removed: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every passage was embedded, none taken from an earlier version."""
        return not self.reused

    @property
    def is_change(self) -> bool:
        """Whether it differs from the version before; one that does not say is taken to."""
        return self.embedded is None or bool(self.embedded or self.removed)


def building_seconds(versions: Sequence[IndexVersion]) -> float | None:
    """What the newest build of the whole index took; None where no version is known."""
    whole = [version.seconds for version in versions if version.is_whole]
    return whole[-1] if whole else versions[0].seconds if versions else None


def upkeep(
    index: str,
    versions: Sequence[IndexVersion],
    now: datetime,
    arms: Sequence[Arm],
    setup: Setup,
    prices: Prices,
) -> Upkeep:
    """What an index's versions, the oldest first and at least one, make of the arms' upkeep."""
    changed = {version.at.date(): version for version in versions[1:] if version.is_change}
    days = max((now - versions[0].at).total_seconds() / 86_400, 1e-9)
    interval = poisson_interval(len(changed))
    month = MONTH_DAYS / days
    told = days >= LEAST_DAYS and len(changed) >= LEAST_CHANGES
    found = Upkeep(
        index=index,
        versions=len(versions),
        changes=len(changed),
        days=days,
        per_month=len(changed) * month,
        low=interval.low * month,
        high=interval.high * month,
        renewed=_renewed(list(changed.values()), building_seconds(versions)),
        told=told,
        words="",
    )
    usd = {
        arm.name: _cost(arm, found, setup, prices)
        for arm in arms
        if arm.is_tuned or _index_of(arm) == index
    } if told else {}  # fmt: skip
    found = found.model_copy(update={"usd": {name: cost for name, cost in usd.items() if cost.month > 0}})
    return found.model_copy(update={"words": _words(found)})


def _renewed(changed: Sequence[IndexVersion], whole_s: float | None) -> float | None:
    if not changed or not whole_s:
        return None
    return min(1.0, sum(version.seconds for version in changed) / len(changed) / whole_s)


def _index_of(arm: Arm) -> str | None:
    return arm.model.removeprefix(RAG_PREFIX).partition("@")[0] if arm.model.startswith(RAG_PREFIX) else None


def _cost(arm: Arm, found: Upkeep, setup: Setup, prices: Prices) -> UpkeepCost:
    share = 1.0 if found.renewed is None else found.renewed
    change = setup.renewal_cost_of(arm, prices, training=1.0, indexing=share)
    return UpkeepCost(month=change * found.per_month, low=change * found.low, high=change * found.high)


def _words(found: Upkeep) -> str:
    seen = (
        f"The passages of {found.index} changed on {found.changes:,} {'day' if found.changes == 1 else 'days'} in "
        f"{found.days:,.0f} days ({found.versions:,} {'version' if found.versions == 1 else 'versions'})"
    )
    if not found.told:
        return f"{seen}: too little to say how often they will."
    rate = f"{found.per_month:.1f} changes a month [{found.low:.1f}, {found.high:.1f}]"
    part = f", each indexing {found.renewed:.0%} as much as the whole" if found.renewed is not None else ""
    costs = ", ".join(
        f"{name} {dollars(cost.month)} a month [{dollars(cost.low)}, {dollars(cost.high)}]"
        for name, cost in found.usd.items()
    )
    return f"{seen}: {rate}{part}. Keeping up costs: {costs or 'nothing'}."


def with_renewal(profile: Profile, seen: Sequence[Upkeep]) -> tuple[Profile, str]:
    """The profile with a rate of changes and a share of indexing, and where they come from.

    What it names itself stays; else the index that changes most often and has been seen long enough counts.
    """
    told = max((one for one in seen if one.told), key=lambda one: one.per_month, default=None)
    values: Mapping[str, float] = {
        "changes_per_month": told.per_month if told else ASSUMED_CHANGES,
        "indexing_renewed": told.renewed if told and told.renewed is not None else 1.0,
    }
    missing = {name: value for name, value in values.items() if getattr(profile, name) is None}
    resolved = profile.model_copy(update=missing)
    if "changes_per_month" not in missing:
        return resolved, f"{resolved.changes_per_month:g} changes a month, as the use says"
    source = f"as observed on {told.index}" if told else "assumed"
    return resolved, f"{resolved.changes_per_month:.3g} changes a month, {source}"
