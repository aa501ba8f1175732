"""Messages that nobody of the platform sent: a doorbell says only that there is work, whatever it says."""

from __future__ import annotations

import json
import os
import pickle
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kombu import Connection, Consumer, Queue
from kombu.exceptions import ContentDisallowed
from redis import Redis
from redis.exceptions import AuthenticationError
from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import JobRow, ProjectRow
from libs.common.errors import LeaseLost
from libs.common.jobs import transitions
from libs.common.jobs.queue import TASK, make_celery
from libs.common.jobs.runner import JobRunner
from model_training.contracts.jobs import JobKind
from tests.conftest import Stores, scratch_database

MARK = "SECURITY_TEST_PICKLE"


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.putenv, (MARK, "read"))


class Nothing:
    """A handler of a kind that nobody has queued; it must not be asked for anything."""

    kind = JobKind.COMPARE
    child_module = "none"

    def prepare(self, session: Session, job: JobRow) -> dict[str, Any]:
        """Never."""
        raise AssertionError(f"a forged message ran {job.id}")

    store = finish = prepare  # type: ignore[assignment]


@pytest.fixture(scope="module")
def apart(stores: Stores) -> Iterator[Database]:
    """A database in which nobody else's jobs wait."""
    with scratch_database(stores.settings.database_url) as url:
        database = Database(url)
        with database.session() as session:
            session.merge(ProjectRow(id="proj_default", name="default"))
        yield database
        database.close()


@contextmanager
def _queue(stores: Stores) -> Iterator[tuple[Connection, Queue]]:
    queue = Queue(f"forged-{uuid.uuid4().hex}")
    with make_celery(stores.settings.broker_url).connection_for_read() as connection:
        yield connection, queue
        queue(connection.default_channel).delete()


@pytest.mark.parametrize("serializer", ["pickle", "yaml"])
def test_nothing_but_json_is_read(stores: Stores, serializer: str) -> None:
    """A worker's consumer, with what a worker accepts: a pickle from the broker is refused, not read."""
    accepted = make_celery(stores.settings.broker_url).conf.accept_content
    assert set(accepted) == {"json"}
    content = {
        "pickle": ("application/x-python-serialize", pickle.dumps(_Evil())),
        "yaml": ("application/x-yaml", b"!!python/object/apply:os.system ['true']"),
    }[serializer]
    with _queue(stores) as (connection, queue), connection.Producer() as producer:
        producer.publish(
            content[1],
            routing_key=queue.name,
            declare=[queue],
            content_type=content[0],
            content_encoding="binary",
        )
        read: list[Any] = []
        consumer = Consumer(
            connection, [queue], callbacks=[lambda body, _: read.append(body)], accept=accepted
        )
        with consumer, pytest.raises(ContentDisallowed):
            connection.drain_events(timeout=60)
    assert read == []


def test_the_broker_wants_its_password(stores: Stores) -> None:
    address = stores.settings.broker_url.rpartition("@")[2]
    for url in (f"redis://{address}", f"redis://:wrong@{address}"):
        with pytest.raises(AuthenticationError):
            Redis.from_url(url).ping()


def test_no_other_task_is_known(stores: Stores) -> None:
    app = make_celery(stores.settings.broker_url)
    own = {name for name in app.tasks if not name.startswith("celery.")}
    assert own <= {TASK}
    assert not [name for name in app.tasks if "eval" in name or "exec" in name or "system" in name]


FORGED = [
    "x'; drop table jobs; --",
    "../../etc/passwd",
    "ftjob_" + "0" * 26,
    "",
    "a" * 100_000,
    None,
    7,
    {"a": 1},
]


@pytest.mark.parametrize("job_id", FORGED, ids=[str(value)[:20] for value in FORGED])
def test_a_forged_id_runs_nothing(stores: Stores, apart: Database, job_id: Any) -> None:
    with apart.session() as session:
        # Another kind of job than this worker's waits: its id in the message does not bring it here.
        waiting = transitions.create(session, JobKind.TRAIN, "proj_default", {"model": "x"})
        transitions.request_pause(session, transitions.locked(session, waiting.id))
    runner = JobRunner(Nothing(), apart, stores.settings)  # pyright: ignore[reportArgumentType]
    runner.run(job_id)
    runner.run(waiting.id)
    with apart.session() as session:
        assert session.get_one(JobRow, waiting.id).attempt == 0


def test_a_worker_without_the_fence_writes_nothing(apart: Database) -> None:
    with apart.session() as session:
        job = transitions.create(session, JobKind.EVALUATE, "proj_default", {"model": "x"})
        session.flush()
        with pytest.raises(LeaseLost):
            transitions.fenced(session, job.id, job.fence + 7)


def test_a_message_carries_no_more_than_an_id() -> None:
    """What a message could add to a job is not read: neither its text nor its headers become part of the work."""
    arguments, keywords, _ = json.loads('[["ftjob_1"], {"spec": {"model": "evil"}}, {}]')
    with pytest.raises(TypeError):
        JobRunner.run(object(), *arguments, **keywords)  # pyright: ignore[reportArgumentType, reportCallIssue]
