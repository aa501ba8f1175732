"""Which job is next: priority, fair share, age; and quotas that hold when many claim at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from libs.common.db.engine import Database
from libs.common.db.tables import JobRow, OutboxRow, ProjectRow
from libs.common.jobs import scheduling, transitions
from model_training.contracts.jobs import JobKind

KIND = JobKind.TRAIN


@pytest.fixture(autouse=True)
def projects(own_database: Database) -> Iterator[None]:
    with own_database.session() as session:
        for name in ("a", "b", "c"):
            session.merge(ProjectRow(id=name, name=name, priority=0, weight=1.0, quotas={}))
    yield
    with own_database.session() as session:
        session.execute(update(JobRow).values(state="cancelled", lease_owner=None))


def queue(database: Database, project: str, count: int = 1, priority: int = 0) -> list[str]:
    made: list[str] = []
    for _ in range(count):  # a transaction each, so that their times differ
        with database.session() as session:
            made.append(transitions.create(session, KIND, project, {}, priority=priority).id)
    return made


def claim(database: Database) -> JobRow | None:
    with database.session() as session:
        return scheduling.claim(session, KIND, "worker", 60.0)


def claimed(database: Database, count: int) -> list[str]:
    return [job.project_id for _ in range(count) if (job := claim(database)) is not None]


def configure(database: Database, project: str, **values: object) -> None:
    with database.session() as session:
        session.execute(update(ProjectRow).where(ProjectRow.id == project).values(**values))


def test_the_oldest_goes_first_in_one_project(own_database: Database) -> None:
    jobs = queue(own_database, "a", 3)
    got = [claim(own_database) for _ in range(4)]
    assert [job.id for job in got if job is not None] == jobs
    assert got[3] is None


def test_projects_take_turns_though_one_has_filled_the_queue(own_database: Database) -> None:
    queue(own_database, "a", 4)
    queue(own_database, "b", 2)
    queue(own_database, "c", 1)
    assert claimed(own_database, 7) == ["a", "b", "c", "a", "b", "a", "a"]


def test_a_weight_is_a_share(own_database: Database) -> None:
    configure(own_database, "b", weight=3.0)
    queue(own_database, "a", 8)
    queue(own_database, "b", 8)
    assert Counter(claimed(own_database, 8)) == {"a": 2, "b": 6}


def test_priority_comes_before_share_and_age(own_database: Database) -> None:
    queue(own_database, "a", 2)
    urgent = queue(own_database, "a", priority=5)
    configure(own_database, "c", priority=3)
    [of_priority_project] = queue(own_database, "c")
    first, second = claim(own_database), claim(own_database)
    assert first is not None
    assert second is not None
    assert [first.id, second.id] == [*urgent, of_priority_project]


def test_a_quota_holds_though_many_claim_at_once(own_database: Database) -> None:
    configure(own_database, "a", quotas={"max_running_jobs": 3})
    queue(own_database, "a", 12)
    queue(own_database, "b", 2)
    with ThreadPoolExecutor(8) as pool:
        jobs = [job for job in pool.map(lambda _: claim(own_database), range(16)) if job is not None]
    assert Counter(job.project_id for job in jobs) == {"a": 3, "b": 2}
    assert claim(own_database) is None


def test_a_job_that_ends_rings_for_one_that_its_projects_quota_held_back(own_database: Database) -> None:
    configure(own_database, "a", quotas={"max_running_jobs": 1})
    _, waiting = queue(own_database, "a", 2)
    running = claim(own_database)
    assert running is not None
    with own_database.session() as session:
        session.query(OutboxRow).delete()
        transitions.succeed(session, transitions.locked(session, running.id), {})
    with own_database.session() as session:
        assert session.scalars(select(OutboxRow.job_id)).all() == [waiting]
    assert claimed(own_database, 2) == ["a"]


def test_nobody_gets_a_job_twice(own_database: Database) -> None:
    jobs = queue(own_database, "a", 20)
    with ThreadPoolExecutor(8) as pool:
        got = [job.id for job in pool.map(lambda _: claim(own_database), range(20)) if job is not None]
    assert len(set(got)) == len(got)
    while (job := claim(own_database)) is not None:  # a claim may find everything locked by others
        got.append(job.id)
    assert sorted(got) == sorted(jobs)


def test_positions_foretell_the_order_of_claims(own_database: Database) -> None:
    configure(own_database, "b", weight=2.0)
    queue(own_database, "a", 3)
    queue(own_database, "b", 4)
    queue(own_database, "c", 2, priority=1)
    claim(own_database)
    with own_database.session() as session:
        waiting = session.scalars(select(JobRow).where(JobRow.state == "queued")).all()
        positions = {job.id: scheduling.queue_position(session, job) for job in waiting}
    order = [job.id for _ in waiting if (job := claim(own_database)) is not None]
    assert len(order) == 8
    for place, job_id in enumerate(
        order
    ):  # projects with the very same share are told apart by age only when claimed
        assert place - 1 <= (positions[job_id] or 0) <= place


def test_in_one_project_the_position_is_exact(own_database: Database) -> None:
    low, high = queue(own_database, "a", 3), queue(own_database, "a", 2, priority=1)
    with own_database.session() as session:
        jobs = [session.get_one(JobRow, job_id) for job_id in [*high, *low]]
        assert [scheduling.queue_position(session, job) for job in jobs] == [0, 1, 2, 3, 4]
    first = claim(own_database)
    assert first is not None
    with own_database.session() as session:
        assert scheduling.queue_position(session, session.get_one(JobRow, first.id)) is None
