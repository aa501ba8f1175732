"""Parts of one job that several workers do at the same time, each part by one worker at a time.

The job itself is held by one worker, which makes the shards and waits for them. Each shard has a lease and a fence of its
own; one whose lease has run out is taken by whoever claims next. A shard's state is `queued`, `running`, `succeeded` or
`failed`. Rings no doorbell: `sharing` does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.db.tables import JobRow, JobShardRow
from libs.common.errors import LeaseLost
from libs.common.jobs import transitions
from model_training.contracts.jobs import JobError, JobKind, JobState

S = JobState


@dataclass(frozen=True)
class Shard:
    """A shard that somebody has claimed; `fence` shuts out whoever held it before."""

    job_id: str
    position: int
    spec: dict[str, Any]
    attempt: int
    fence: int


@dataclass(frozen=True)
class ShardCounts:
    """How far a job's shards are. Each is counted once; `running` may hold leases that have run out."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0

    @property
    def all_done(self) -> bool:
        """Whether no shard is left to do; some may have failed."""
        return self.queued == 0 and self.running == 0


def create(session: Session, job_id: str, specs: Sequence[dict[str, Any]]) -> None:
    """Make a job's shards, one for each spec in order. A second attempt of the job keeps those that the first one made."""
    rows = [
        {"job_id": job_id, "position": position, "spec": spec, "state": S.QUEUED.value}
        for position, spec in enumerate(specs)
    ]
    if rows:
        session.execute(insert(JobShardRow).values(rows).on_conflict_do_nothing())


def claim(
    session: Session, job_id: str, owner: str, lease_s: float, *, max_attempts: int = 3, give_up: bool = True
) -> Shard | None:
    """Take the first shard that waits or whose holder fell silent. None if there is none, or the job is not running.

    A shard that was lost `max_attempts` times fails; without `give_up` it is left to somebody else.
    """
    lost = _is_lost()
    query = (
        select(JobShardRow)
        .join(JobRow, JobRow.id == JobShardRow.job_id)
        .where(
            JobShardRow.job_id == job_id,
            JobRow.state == S.RUNNING.value,
            or_(JobShardRow.state == S.QUEUED.value, lost),
            or_(literal(give_up), JobShardRow.attempt < max_attempts),
        )
        .order_by(JobShardRow.position)
        .limit(1)
        .with_for_update(skip_locked=True, of=JobShardRow)
        .execution_options(populate_existing=True)
    )
    while (row := session.scalars(query).one_or_none()) is not None:
        if row.attempt >= max_attempts:
            _end(session, row, S.FAILED, error=_lost(row))
            session.flush()
            continue
        row.state, row.lease_owner = S.RUNNING.value, owner
        row.attempt, row.fence = row.attempt + 1, row.fence + 1
        row.lease_expires_at = _expiry(session, lease_s)
        return _shard(row)
    return None


def open_job(
    session: Session, kind: JobKind, *, max_attempts: int, besides: Collection[str] = ()
) -> str | None:
    """The job of a kind that runs longest and has a shard to take, `besides` those jobs. None if there is none."""
    query = (
        select(JobRow.id)
        .join(JobShardRow, JobShardRow.job_id == JobRow.id)
        .where(
            JobRow.kind == kind.value,
            JobRow.state == S.RUNNING.value,
            JobRow.id.not_in(besides),
            JobShardRow.attempt < max_attempts,
            or_(JobShardRow.state == S.QUEUED.value, _is_lost()),
        )
        .order_by(JobRow.started_at, JobRow.id)
        .limit(1)
    )
    return session.scalar(query)


def renew_all(session: Session, job_id: str, owner: str, lease_s: float) -> list[Shard]:
    """Extend the lease of every shard of the job that the owner still holds; returns them by position."""
    statement = (
        update(JobShardRow)
        .where(JobShardRow.job_id == job_id, JobShardRow.lease_owner == owner)
        .where(JobShardRow.state == S.RUNNING.value)
        .values(lease_expires_at=func.clock_timestamp() + timedelta(seconds=lease_s))
        .returning(JobShardRow)
        .execution_options(populate_existing=True)
    )
    session.flush()
    return sorted(map(_shard, session.scalars(statement)), key=lambda shard: shard.position)


def release(session: Session, job_id: str, owner: str, *, was_lost: bool = False) -> int:
    """Let every shard that the owner holds be taken by others; returns how many.

    Args:
        was_lost: whether the attempt counts, because the shard may be what ended its holder.
    """
    statement = (
        update(JobShardRow)
        .where(JobShardRow.job_id == job_id, JobShardRow.lease_owner == owner)
        .where(JobShardRow.state == S.RUNNING.value)
        .values(
            state=S.QUEUED.value,
            lease_owner=None,
            lease_expires_at=None,
            fence=JobShardRow.fence + 1,
            attempt=JobShardRow.attempt - (0 if was_lost else 1),
        )
        .returning(JobShardRow.position)
        .execution_options(synchronize_session=False)
    )
    session.flush()
    return len(session.scalars(statement).all())


def renew(session: Session, shard: Shard, lease_s: float) -> None:
    """Extend the lease.

    Raises:
        LeaseLost: somebody else has the shard now, or it has ended.
    """
    _fenced(session, shard).lease_expires_at = _expiry(session, lease_s)


def finish(session: Session, shard: Shard, result: dict[str, Any]) -> ShardCounts:
    """Store a shard's result. Exactly one caller sees the counts become `all_done`: it has ended the last shard.

    Raises:
        LeaseLost: somebody else has the shard now, or it has ended.
    """
    transitions.locked(session, shard.job_id)  # two last shards that end at once must see each other
    row = _fenced(session, shard)
    row.result = result
    _end(session, row, S.SUCCEEDED)
    return counts(session, shard.job_id)


def fail(session: Session, shard: Shard, error: JobError) -> ShardCounts:
    """End a shard with the reason; see `finish`."""
    transitions.locked(session, shard.job_id)
    _end(session, _fenced(session, shard), S.FAILED, error=error)
    return counts(session, shard.job_id)


def counts(session: Session, job_id: str) -> ShardCounts:
    """How many of a job's shards are in each state."""
    session.flush()
    query = select(JobShardRow.state, func.count()).where(JobShardRow.job_id == job_id)
    return ShardCounts(
        **{state: count for state, count in session.execute(query.group_by(JobShardRow.state))}
    )


def results(session: Session, job_id: str) -> list[dict[str, Any] | None]:
    """The shards' results by position; None for one that has none."""
    query = select(JobShardRow.result).where(JobShardRow.job_id == job_id).order_by(JobShardRow.position)
    return list(session.scalars(query))


def _shard(row: JobShardRow) -> Shard:
    return Shard(row.job_id, row.position, row.spec, row.attempt, row.fence)


def _is_lost() -> ColumnElement[bool]:
    return and_(JobShardRow.state == S.RUNNING.value, JobShardRow.lease_expires_at < func.clock_timestamp())


def _fenced(session: Session, shard: Shard) -> JobShardRow:
    row = session.scalars(
        select(JobShardRow)
        .where(JobShardRow.job_id == shard.job_id, JobShardRow.position == shard.position)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    if row.fence != shard.fence or row.state != S.RUNNING.value:
        raise LeaseLost(
            f"shard {shard.position} of job {shard.job_id}: fence {shard.fence} is no longer valid"
            f" (now {row.fence}, {row.state})"
        )
    return row


def _end(session: Session, row: JobShardRow, state: JobState, *, error: JobError | None = None) -> None:
    row.state = state.value
    row.error = error.model_dump(mode="json", exclude_none=True) if error else None
    row.lease_owner = row.lease_expires_at = None
    row.finished_at = session.scalar(select(func.clock_timestamp()))


def _lost(row: JobShardRow) -> JobError:
    return JobError(
        code="worker_lost",
        message=f"Worker {row.lease_owner} fell silent. The shard was tried {row.attempt} times.",
        hint="Look at the worker's log; a machine that ran out of memory is a common cause.",
    )


def _expiry(session: Session, lease_s: float) -> Any:
    return session.scalar(select(func.clock_timestamp() + timedelta(seconds=lease_s)))
