"""Who may use a card: one lease a card, in PostgreSQL. Training and serving cannot both hold one, so they take turns.

Whoever holds a lease renews it; one that falls silent loses it when it runs out. Whoever waits says so, and is the only one
who may take the card next, as long as it goes on saying so. Cards are named by `MT_SHARED_DEVICES`; without any, nothing
is leased. Nothing here touches a card.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.db.tables import DeviceLeaseRow

SERVING = "serving"
"""The holder's name while answers are given; a training holds a card under its job's id."""


@dataclass(frozen=True)
class Turn:
    """How a card stands for whoever asks. `wanted_by` waits for it; None where nobody does."""

    held: bool
    holder: str | None
    wanted_by: str | None


def take(session: Session, device: str, who: str, lease_s: float, *, insist: bool = False) -> Turn:
    """Take a card, or keep one that is held; with `insist`, wait for it in front of everybody else.

    Args:
        lease_s: how long the lease holds, and how long the wish counts, unless it is said again.
    """
    row = _locked(session, device)
    now = session.scalar(select(func.clock_timestamp()))
    assert now is not None
    holder = row.holder if row.expires_at is not None and row.expires_at > now else None
    wanted_by = row.wanted_by if row.wanted_until is not None and row.wanted_until > now else None
    until = now + timedelta(seconds=lease_s)
    if holder == who or (holder is None and wanted_by in (None, who)):
        row.holder, row.expires_at = who, until
        if wanted_by == who:
            row.wanted_by = row.wanted_until = wanted_by = None
        return Turn(True, who, wanted_by)
    if insist and wanted_by in (None, who):
        row.wanted_by, row.wanted_until, wanted_by = who, until, who
    return Turn(False, holder, wanted_by)


def free(session: Session, device: str, who: str) -> None:
    """Let a card go, and any wish for it; what somebody else holds stays."""
    row = _locked(session, device)
    if row.holder == who:
        row.holder = row.expires_at = None
    if row.wanted_by == who:
        row.wanted_by = row.wanted_until = None


def _locked(session: Session, device: str) -> DeviceLeaseRow:
    session.execute(insert(DeviceLeaseRow).values(device=device).on_conflict_do_nothing())
    query = select(DeviceLeaseRow).where(DeviceLeaseRow.device == device).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).one()
