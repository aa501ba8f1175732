"""How much a project and a key may have: checked in the transaction that adds to it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from libs.common.errors import QuotaExceeded
from model_training.contracts.keys import Quotas
from services.gateway import repository
from services.gateway.domain import Principal

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


def admit_job(session: Session, principal: Principal) -> None:
    """Go on only if one more job may wait.

    A project's own quota is exact: its row is locked, so that two requests cannot both take the last place. The general
    limits may be exceeded by as many jobs as are created at the same moment.

    Raises:
        QuotaExceeded: the key or the project has as many unfinished jobs as it may have.
    """
    if principal.admitted:
        return  # its pipeline was counted; were its steps too, a full project's pipelines could never end
    allowance = principal.allowance
    most = (allowance.open_jobs_of_project or 0, allowance.open_jobs_of_key or 0)
    quotas, of_project, of_key = repository.quotas_and_open_jobs(
        session, principal.project_id, principal.key_id, most
    )
    own = Quotas.model_validate(quotas or {}).max_open_jobs
    if own is not None:
        repository.locked_project(session, principal.project_id)
        count = repository.open_jobs(session, principal.project_id, None, own)
        _require_fewer(count, own, f"project {principal.project_id}")
    elif allowance.open_jobs_of_project is not None:
        _require_fewer(of_project, allowance.open_jobs_of_project, f"project {principal.project_id}")
    if principal.key_id is not None and allowance.open_jobs_of_key is not None:
        _require_fewer(of_key, allowance.open_jobs_of_key, "this key")


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
