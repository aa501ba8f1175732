"""What must be true of every job after a round, whatever went wrong in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import func, select

from libs.common.db.engine import Database
from libs.common.db.tables import JobEventRow, JobRow
from model_training.contracts.jobs import FINAL_STATES, JobState

EFFECTS = ("stored", "counted", "published")


@dataclass(frozen=True)
class Expected:
    """How a job may end: its state, and its error's code where it fails."""

    states: tuple[JobState, ...] = (JobState.SUCCEEDED,)
    code: str | None = None


def unfinished(database: Database) -> int:
    """How many jobs have not reached a final state."""
    final = [state.value for state in FINAL_STATES]
    with database.session() as session:
        return session.scalar(select(func.count()).where(JobRow.state.not_in(final))) or 0


def tickets_used_twice(database: Database) -> list[str]:
    """Requests that made more than one job although they carried one idempotency key."""
    with database.session() as session:
        tickets = session.scalars(select(JobRow.meta["ticket"].astext)).all()
    return [ticket for ticket, count in Counter(tickets).items() if ticket is not None and count > 1]


def faults_of(database: Database, job_id: str, expected: Expected) -> list[str]:
    """What is wrong with a job and its history; empty if nothing is."""
    with database.session() as session:
        job = session.get_one(JobRow, job_id)
        query = select(JobEventRow).where(JobEventRow.job_id == job_id).order_by(JobEventRow.sequence)
        events = list(session.scalars(query))
    found = [*_end(job, expected), *_sequence(job, events), *_effects(job, events), *_zombies(events)]
    if not found:
        return []
    history = [f"  {e.sequence} {e.created_at:%H:%M:%S.%f} {e.type} {e.message} {e.data}" for e in events]
    return [f"{job_id} ({job.spec.get('toy') or job.meta.get('toy')}): {'; '.join(found)}", *history]


def _end(job: JobRow, expected: Expected) -> list[str]:
    found: list[str] = []
    code = (job.error or {}).get("code")
    if job.state not in [state.value for state in expected.states]:
        found.append(f"ended as {job.state} ({code}) instead of {[s.value for s in expected.states]}")
    elif job.state == JobState.FAILED and code != expected.code:
        found.append(f"failed with {code} instead of {expected.code}")
    if job.lease_owner is not None or job.finished_at is None:
        found.append("is still held by a worker")
    return found


def _sequence(job: JobRow, events: list[JobEventRow]) -> list[str]:
    sequence = [event.sequence for event in events]
    wanted = list(range(1, job.last_sequence + 1))
    return [] if sequence == wanted else [f"events {sequence} instead of 1..{job.last_sequence}"]


def _effects(job: JobRow, events: list[JobEventRow]) -> list[str]:
    found: list[str] = []
    steps = [event.data["step"] for event in events if event.type == "stored"]
    if len(set(steps)) < len(steps):
        found.append(f"steps done twice: {steps}")
    published = sum(event.type == "published" for event in events)
    if published != (job.state == JobState.SUCCEEDED):
        found.append(f"published {published} times")
    if job.state == JobState.SUCCEEDED and len(steps) != (job.result or {}).get("steps"):
        found.append(f"steps missing: {steps}")
    return found


def _zombies(events: list[JobEventRow]) -> list[str]:
    """Effects that carry another fence than the attempt in whose time they landed."""
    found: list[str] = []
    fence: int | None = None
    for event in events:
        if event.type == "state":
            holds = event.data["state"] in ("running", "pausing", "cancelling")
            fence = event.data.get("fence", fence) if holds else None
        elif event.type in EFFECTS and event.data["fence"] != fence:
            found.append(f"event {event.sequence} of fence {event.data['fence']} landed under {fence}")
    return found
