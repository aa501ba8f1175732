"""What the cluster relies on: the scaler counts what workers can claim, and a new version waits for its tables."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from alembic import command
from sqlalchemy import create_engine, make_url, text, update

from deploy.k8s.scaling import WAITING
from libs.common.db.engine import Database
from libs.common.db.tables import JobRow, ProjectRow
from libs.common.jobs import scheduling, transitions
from migrations.upgrade import configuration, is_up_to_date, upgrade, wait
from model_training.contracts.jobs import JobKind
from tests.conftest import ROOT, Stores, scratch_database


@pytest.fixture
def own(stores: Stores) -> Iterator[Database]:
    """A database with two projects, the second with room for two jobs at once."""
    with scratch_database(stores.settings.database_url) as url:
        database = Database(url)
        with database.session() as session:
            session.add(ProjectRow(id="open", name="open"))
            session.add(ProjectRow(id="narrow", name="narrow", quotas={"max_running_jobs": 2}))
        yield database
        database.close()


@pytest.fixture
def empty(stores: Stores) -> Iterator[str]:
    """The address of a database without a table."""
    url = make_url(stores.settings.database_url).set(database="wait_test")
    admin_engine = create_engine(stores.settings.database_url, isolation_level="AUTOCOMMIT")
    with admin_engine.connect() as admin:
        admin.execute(text("create database wait_test"))
        yield url.render_as_string(hide_password=False)
        admin.execute(text("drop database wait_test with (force)"))
    admin_engine.dispose()


def queue(database: Database, project: str, count: int, kind: JobKind = JobKind.TRAIN) -> None:
    with database.session() as session:
        for _ in range(count):
            transitions.create(session, kind, project, {})


def counted(database: Database, kind: JobKind = JobKind.TRAIN) -> float:
    with database.session() as session:
        return session.execute(text(WAITING.format(kind=kind.value))).scalar_one()


def claimed(database: Database) -> int:
    """How many workers that come one after the other find a job."""
    found = 0
    while True:
        with database.session() as session:
            if scheduling.claim(session, JobKind.TRAIN, "worker", 60.0) is None:
                return found
        found += 1


def test_the_scaler_counts_what_workers_can_claim(own: Database) -> None:
    assert counted(own) == 0
    queue(own, "open", 3)
    queue(own, "narrow", 5)
    queue(own, "open", 4, JobKind.EVALUATE)
    assert counted(own) == 5
    assert claimed(own) == 5
    assert counted(own) == 0, "the quota holds three back: a worker for them would find nothing"
    with own.session() as session:
        session.execute(update(JobRow).where(JobRow.project_id == "narrow").values(lease_owner=None))
    assert counted(own) == 2
    assert counted(own, JobKind.EVALUATE) == 4


def test_waiting_ends_with_the_migrations(empty: str) -> None:
    assert not is_up_to_date(empty)
    with pytest.raises(TimeoutError, match="not migrated"):
        wait(empty, timeout_s=0, pause_s=0)
    environment = {**os.environ, "MT_DATABASE_URL": empty}
    waiting = subprocess.Popen(
        [sys.executable, "-m", "migrations.upgrade", "--wait"],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
    )
    try:
        upgrade(empty)
        assert waiting.wait(timeout=120) == 0
    finally:
        waiting.kill()
        waiting.communicate()


def test_a_version_waits_for_its_own_tables_but_not_for_older_ones(empty: str) -> None:
    upgrade(empty)
    command.downgrade(configuration(empty), "-1")
    assert not is_up_to_date(empty)
    upgrade(empty)
    assert is_up_to_date(empty)
    engine = create_engine(empty)
    with engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = 'of_a_newer_version'"))
    engine.dispose()
    assert is_up_to_date(empty), "after a rollback of the code, the newer tables serve the older version"


def test_a_database_that_does_not_answer_is_waited_for() -> None:
    assert not is_up_to_date("postgresql+psycopg://nobody@127.0.0.1:1/none")
