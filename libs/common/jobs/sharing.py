"""What is said about shards between a child and its worker, the job's own and those that help.

A child plans the shards of its job once (`PLAN`), takes one after the other (`WANT`) and ends them (`DONE`); each is an
output, heard in the transaction that stores what the child said before. The answer is the newest `news`, which says what the
child holds and never what has changed, so that none may be missed or come twice.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from libs.common.db.tables import JobRow, JobShardRow, OutboxRow
from libs.common.jobs import shards
from model_training.contracts.jobs import JobState

PLAN, WANT, DONE = "shards.plan", "shards.want", "shards.done"
MAX_DOORBELLS = 16
"""Workers that are called to help with one job."""

MAX_HELPERS_ATTEMPTS = 2
"""Helpers that may be lost with a shard; then it is left to the worker of the job, whose attempts are counted."""


def owner_of(job: JobRow) -> str:
    """Who holds the shards that the job's own worker does in this attempt."""
    return f"{job.id}:{job.fence}"


def take_from_former(session: Session, job: JobRow) -> None:
    """Free the shards of the job's earlier attempts, whose fence is old: nobody need wait for their leases to run out."""
    held = select(JobShardRow.lease_owner).where(
        JobShardRow.job_id == job.id,
        JobShardRow.lease_owner.startswith(f"{job.id}:", autoescape=True),
        JobShardRow.lease_owner != owner_of(job),
    )
    for owner in set(session.scalars(held)):
        if owner is not None:
            shards.release(session, job.id, owner, was_lost=True)


def hear(session: Session, job: JobRow, owner: str, name: str, data: dict[str, Any], lease_s: float) -> None:
    """Do what a child asks for. Everything may be said again after a lost transaction: it counts once.

    Args:
        owner: whose shards are meant; a helper's are not the job's own worker's.
    """
    if name == PLAN:
        _plan(session, job, data["specs"])
    elif name == WANT:
        _give(session, job, owner, data["held"], lease_s)
    elif name == DONE:
        mine = {shard.position: shard for shard in shards.renew_all(session, job.id, owner, lease_s)}
        if data["position"] in mine:  # else somebody else does it now, or it was heard before
            shards.finish(session, mine[data["position"]], {"by": owner, **data["result"]})
    else:
        raise AssertionError(f"unexpected output {name!r}")


def _plan(session: Session, job: JobRow, specs: list[dict[str, Any]]) -> None:
    if shards.counts(session, job.id) != shards.ShardCounts():
        return
    shards.create(session, job.id, specs)
    calls = min(len(specs) - 1, MAX_DOORBELLS)
    session.add_all([OutboxRow(job_id=job.id, queue=job.kind) for _ in range(calls)])


def _give(session: Session, job: JobRow, owner: str, held: list[int], lease_s: float) -> None:
    if [shard.position for shard in shards.renew_all(session, job.id, owner, lease_s)] != sorted(held):
        return  # the child has not seen the newest news yet
    if owner == owner_of(job):
        # However often helpers were lost with it: if it ends this worker too, that is the job's attempt.
        shards.claim(session, job.id, owner, lease_s, max_attempts=2**31)
    elif not _others_wait(session, job):
        shards.claim(session, job.id, owner, lease_s, max_attempts=MAX_HELPERS_ATTEMPTS, give_up=False)


def _others_wait(session: Session, job: JobRow) -> bool:
    """Whether a job of this kind has nobody at all, who comes before helping."""
    waiting = exists().where(JobRow.kind == job.kind, JobRow.state == JobState.QUEUED.value)
    return bool(session.scalar(select(waiting)))


def news(session: Session, job: JobRow, owner: str, lease_s: float) -> dict[str, Any] | None:
    """What a child should know: the shards that it holds, whose lease is extended, and whether all of the job's are done.

    None for a job without shards.
    """
    counts = shards.counts(session, job.id)
    if counts == shards.ShardCounts():
        return None
    mine = shards.renew_all(session, job.id, owner, lease_s)
    return {
        "mine": [{"position": shard.position, **shard.spec} for shard in mine],
        "all_done": counts.all_done,
        "others": counts.running - len(mine),
        "waiting": counts.queued,
    }
