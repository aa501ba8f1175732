"""How much a project and a key may have: checked in the transaction that adds to it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from sqlalchemy.orm import Session

from libs.common.errors import QuotaExceeded
from model_training.contracts.keys import Quotas
from services.gateway import repository
from services.gateway.domain import Allowance, Principal

SHARE = 16
COUNTED_FOR_S = 1.0
MOST_REMEMBERED = 10_000
UNLIMITED = 2**31

WAIT_S = 30.0
"""When to ask again for room that somebody's job or file must make."""


@dataclass(frozen=True)
class Room:
    """What a project may still store, in bytes: in one file, and in all. None is no limit of its own."""

    file_bytes: int | None
    free_bytes: int | None

    def limit(self, most: int) -> int:
        """The largest file that has room."""
        return min([most, *(size for size in (self.file_bytes, self.free_bytes) if size is not None)])


class Uncounted:
    """How many more jobs this process may let in before it counts again: counting with each would cost more than the job.

    A process takes a share of the room that it has counted, so that `SHARE` processes together pass no limit, and where a
    limit is nearly reached each is counted. Every method may be called from any thread.
    """

    def __init__(self) -> None:
        self._left: dict[tuple[str, str | None, Allowance], tuple[int, float]] = {}
        self._lock = threading.Lock()

    def take(self, principal: Principal) -> bool:
        """Let one in, if there is room left that was counted lately."""
        with self._lock:
            left, until = self._left.get(_who(principal), (0, 0.0))
            if left < 1 or time.monotonic() > until:
                return False
            self._left[_who(principal)] = (left - 1, until)
            return True

    def remember(self, principal: Principal, room: int) -> None:
        """There was room for so many just now."""
        with self._lock:
            if len(self._left) >= MOST_REMEMBERED:
                self._left.clear()
            self._left[_who(principal)] = (room // SHARE, time.monotonic() + COUNTED_FOR_S)

    def forget(self) -> None:
        """Count again: a quota was changed."""
        with self._lock:
            self._left.clear()


uncounted = Uncounted()
"""This process's own."""


def _who(principal: Principal) -> tuple[str, str | None, Allowance]:
    return principal.project_id, principal.key_id, principal.allowance


def admit_job(session: Session, principal: Principal) -> None:
    """Go on only if one more job may wait.

    A project's own quota is exact: its row is locked, so that two requests cannot both take the last place. The general
    limits may be exceeded by as many jobs as are created at the same moment.

    Raises:
        QuotaExceeded: the key or the project has as many unfinished jobs as it may have.
    """
    if principal.admitted:
        return  # its pipeline was counted; were its steps too, a full project's pipelines could never end
    if uncounted.take(principal):
        return
    allowance = principal.allowance
    of_key = allowance.open_jobs_of_key if principal.key_id is not None else None
    limits = (_or_unlimited(allowance.open_jobs_of_project), _or_unlimited(of_key))
    quotas, in_project, by_key = repository.quotas_and_open_jobs(
        session, principal.project_id, principal.key_id, (limits[0] % UNLIMITED, limits[1] % UNLIMITED)
    )
    own = Quotas.model_validate(quotas or {}).max_open_jobs
    if own is not None:
        repository.locked_project(session, principal.project_id)
        count = repository.open_jobs(session, principal.project_id, None, own)
        _require_fewer(count, own, f"project {principal.project_id}")
    else:
        _require_fewer(in_project, limits[0], f"project {principal.project_id}")
    _require_fewer(by_key, limits[1], "this key")
    if own is None:
        uncounted.remember(principal, min(limits[0] - in_project, limits[1] - by_key))


def _or_unlimited(limit: int | None) -> int:
    return UNLIMITED if limit is None else limit


def _require_fewer(count: int, most: int, whose: str) -> None:
    if count >= most:
        raise QuotaExceeded(
            f"There are {most} unfinished jobs of {whose}, and no more are allowed.",
            hint="Wait until some have ended, or cancel some.",
            retry_after_s=WAIT_S,
        )


def room_of(session: Session, project_id: str) -> Room:
    """What a project may still store."""
    quotas = quotas_of(session, project_id)
    if quotas.max_storage_bytes is None:
        return Room(quotas.max_file_bytes, None)
    free = quotas.max_storage_bytes - repository.stored_bytes(session, project_id)
    return Room(quotas.max_file_bytes, max(0, free))


def admit_file(session: Session, project_id: str, size: int) -> None:
    """Go on only if the project has room for a file of so many bytes.

    Raises:
        QuotaExceeded: it would have more than it may have.
    """
    if quotas_of(session, project_id).max_storage_bytes is None:
        return
    repository.locked_project(session, project_id)
    if room_of(session, project_id).limit(size) < size:
        raise QuotaExceeded(
            f"Project {project_id} has no room for {size} more bytes.",
            param="file",
            hint="Delete files that are no longer needed.",
            retry_after_s=WAIT_S,
        )


def quotas_of(session: Session, project_id: str) -> Quotas:
    """The quotas of a project; none of one that does not exist."""
    row = repository.project(session, project_id)
    return Quotas.model_validate(row.quotas) if row else Quotas()
