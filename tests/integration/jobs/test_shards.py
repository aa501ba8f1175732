"""Shards of one job, claimed by several processes at once."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from sqlalchemy import select

from libs.common.db.engine import Database
from libs.common.db.tables import JobShardRow
from libs.common.errors import LeaseLost
from libs.common.jobs import shards, transitions
from model_training.contracts.jobs import JobError, JobKind
from tests.conftest import ROOT

WORKER = """
import os, sys
from libs.common.db.engine import Database
from libs.common.jobs import shards
database, job_id, seen_last = Database(sys.argv[1]), sys.argv[2], 0
while True:
    with database.session() as session:
        shard = shards.claim(session, job_id, str(os.getpid()), 60.0)
    if shard is None:
        break
    with database.session() as session:
        done = shards.finish(session, shard, {"square": shard.spec["n"] ** 2, "by": os.getpid()})
    seen_last += done.all_done
print(seen_last)
"""


def running_job(database: Database, count: int) -> str:
    with database.session() as session:
        job = transitions.create(session, JobKind.EVALUATE, "proj_default", {})
        transitions.start(session, job, "coordinator", 60.0)
        session.flush()
        shards.create(session, job.id, [{"n": n} for n in range(count)])
    return job.id


def test_several_processes_do_every_shard_once_and_one_sees_the_end(own_database: Database) -> None:
    job_id = running_job(own_database, 60)
    url = own_database.engine.url.render_as_string(hide_password=False)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, url, job_id], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    saw_the_end = [int(worker.communicate(timeout=60)[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert sum(saw_the_end) == 1
    with own_database.session() as session:
        results = shards.results(session, job_id)
        assert [result and result["square"] for result in results] == [n**2 for n in range(60)]
        attempts = session.scalars(select(JobShardRow.attempt).where(JobShardRow.job_id == job_id))
        assert Counter(attempts) == {1: 60}
    assert len({result["by"] for result in results if result}) > 1


def test_a_shard_whose_worker_fell_silent_is_done_by_another(own_database: Database) -> None:
    job_id = running_job(own_database, 1)
    with own_database.session() as session:
        lost = shards.claim(session, job_id, "silent", lease_s=0.0)
    assert lost is not None
    with own_database.session() as session:
        heir = shards.claim(session, job_id, "heir", lease_s=60.0)
        assert heir is not None
        assert (heir.fence, heir.attempt) == (lost.fence + 1, 2)
        assert shards.claim(session, job_id, "third", lease_s=60.0) is None
    for write in (
        lambda session: shards.finish(session, lost, {"zombie": True}),
        lambda session: shards.renew(session, lost, 60.0),
        lambda session: shards.fail(session, lost, JobError(code="x", message="x")),
    ):
        with pytest.raises(LeaseLost), own_database.session() as session:
            write(session)
    with own_database.session() as session:
        shards.renew(session, heir, 60.0)
        assert shards.finish(session, heir, {"n": 1}).all_done
        assert shards.results(session, job_id) == [{"n": 1}]


def test_a_shard_that_is_lost_too_often_fails_and_the_rest_goes_on(own_database: Database) -> None:
    job_id = running_job(own_database, 2)
    for _ in range(2):
        with own_database.session() as session:
            assert shards.claim(session, job_id, "silent", lease_s=0.0, max_attempts=2) is not None
    with own_database.session() as session:
        second = shards.claim(session, job_id, "worker", 60.0, max_attempts=2)
        assert second is not None
        assert second.position == 1
        counts = shards.finish(session, second, {})
    assert counts == shards.ShardCounts(succeeded=1, failed=1)
    assert counts.all_done


def test_nobody_takes_shards_of_a_job_that_is_not_running(own_database: Database) -> None:
    job_id = running_job(own_database, 3)
    with own_database.session() as session:
        shards.create(session, job_id, [{"n": "other"}])  # as a second attempt of the job does
        assert shards.counts(session, job_id).queued == 3
        transitions.request_cancel(session, transitions.locked(session, job_id))
    with own_database.session() as session:
        assert shards.claim(session, job_id, "worker", 60.0) is None
