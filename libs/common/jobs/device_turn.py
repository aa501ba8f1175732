"""A job's turn on the cards that training and serving share: waits until serving has let go of them, and gives them back."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from libs.common import devices
from libs.common.db.tables import JobRow

WAITING = "waiting_for_device"


class DeviceTurn:
    """The cards of one worker, for one job after the other. Without cards every call does nothing."""

    def __init__(self, names: Sequence[str], lease_s: float) -> None:
        self._names = sorted(names)  # all ask in one order, so that no two wait for each other
        self._lease_s = lease_s

    @property
    def is_needed(self) -> bool:
        """Whether there are cards to wait for."""
        return bool(self._names)

    def take(self, session: Session, job: JobRow) -> str | None:
        """Take the cards, or keep them; None once all are the job's, else why it waits. Again before the lease ends."""
        for name in self._names:
            turn = devices.take(session, name, _holder(job), self._lease_s, insist=True)
            if not turn.held:
                return _reason(name, turn)
        return None

    def free(self, session: Session, job: JobRow) -> None:
        """Let the cards go; what another attempt of the job holds stays."""
        for name in self._names:
            devices.free(session, name, _holder(job))


def _holder(job: JobRow) -> str:
    return f"{job.id}:{job.fence}"


def _reason(name: str, turn: devices.Turn) -> str:
    if turn.holder == devices.SERVING:
        what = "answers are being given on it; serving was asked to let it go"
    else:
        other, is_next = (turn.holder, False) if turn.holder else (turn.wanted_by, True)
        what = f"job {(other or '').partition(':')[0]} {'is next' if is_next else 'uses it'}"
    return f"Waiting for {name}: {what}."
