"""What children ask for of shards, and what they are told: each question may come twice and counts once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import JobRow, OutboxRow
from libs.common.jobs import shards, sharing, transitions
from model_training.contracts.jobs import JobKind

LEASE_S = 60.0


def planned(database: Database, count: int = 3) -> str:
    with database.session() as session:
        job = transitions.create(session, JobKind.EVALUATE, "proj_default", {})
        transitions.start(session, job, "worker", LEASE_S)
        for _ in range(2):
            tell(session, job, sharing.PLAN, {"specs": [{"n": n} for n in range(count)]})
    return job.id


def tell(session: Session, job: JobRow, name: str, data: dict[str, Any], owner: str | None = None) -> None:
    sharing.hear(session, job, owner or sharing.owner_of(job), name, data, LEASE_S)


def want(session: Session, job: JobRow, owner: str, held: list[int]) -> list[int]:
    """Ask, and return what is held then."""
    tell(session, job, sharing.WANT, {"held": held}, owner)
    news = sharing.news(session, job, owner, LEASE_S)
    assert news is not None
    return [shard["position"] for shard in news["mine"]]


def test_a_plan_counts_once_and_calls_others(own_database: Database) -> None:
    job_id = planned(own_database)
    with own_database.session() as session:
        assert shards.counts(session, job_id).queued == 3
        rings = session.scalar(select(func.count()).select_from(OutboxRow).where(OutboxRow.job_id == job_id))
        assert rings == 1 + 2, "the job's own, and one for each worker that may help"


def test_a_question_that_comes_twice_is_given_one_shard(own_database: Database) -> None:
    job_id = planned(own_database)
    with own_database.session() as session:
        job = transitions.locked(session, job_id)
        own = sharing.owner_of(job)
        assert want(session, job, own, []) == [0]
        assert want(session, job, own, []) == [0], "the child did not know of the first one yet"
        assert want(session, job, "helper:1:a", []) == [1]
        tell(session, job, sharing.DONE, {"position": 1, "result": {}}, own)  # not its own: nothing happens
        for _ in range(2):
            tell(session, job, sharing.DONE, {"position": 1, "result": {"x": 1}}, "helper:1:a")
        assert shards.results(session, job_id)[1] == {"by": "helper:1:a", "x": 1}
        news = sharing.news(session, job, own, LEASE_S)
        assert news is not None
        assert (news["all_done"], news["waiting"], news["others"]) == (False, 1, 0)
        assert want(session, job, own, [0]) == [0, 2]


def test_a_helper_leaves_when_another_job_waits(own_database: Database) -> None:
    job_id = planned(own_database)
    with own_database.session() as session:
        other = transitions.create(session, JobKind.EVALUATE, "proj_default", {})
        job = transitions.locked(session, job_id)
        assert want(session, job, "helper:1:a", []) == []
        assert want(session, job, sharing.owner_of(job), []) == [0]
        transitions.request_cancel(session, transitions.locked(session, other.id))
        assert want(session, job, "helper:1:a", []) == [1]


def test_a_shard_that_ends_helpers_is_left_to_the_job(own_database: Database) -> None:
    job_id = planned(own_database, count=2)
    with own_database.session() as session:
        job = transitions.locked(session, job_id)
        own = sharing.owner_of(job)
        for n in range(sharing.MAX_HELPERS_ATTEMPTS):
            assert want(session, job, f"helper:1:{n}", []) == [0]
            assert shards.release(session, job_id, f"helper:1:{n}", was_lost=True) == 1
        assert want(session, job, "helper:1:x", []) == [1]
        assert want(session, job, own, []) == [0]
        assert shards.open_job(session, JobKind.EVALUATE, max_attempts=9) != job_id


def test_the_next_attempt_need_not_wait_for_the_former(own_database: Database) -> None:
    job_id = planned(own_database, count=2)
    with own_database.session() as session:
        job = transitions.locked(session, job_id)
        former = sharing.owner_of(job)
        assert want(session, job, former, []) == [0]
        assert want(session, job, "helper:1:a", []) == [1]
        transitions.release(session, job, "The worker leaves.")
        transitions.start(session, job, "next", LEASE_S)
        assert shards.renew_all(session, job_id, former, LEASE_S), "not before it says so"
        sharing.take_from_former(session, job)
        assert shards.renew_all(session, job_id, former, LEASE_S) == []
        assert want(session, job, sharing.owner_of(job), []) == [0]
        assert [shard.position for shard in shards.renew_all(session, job_id, "helper:1:a", LEASE_S)] == [1]
