"""What the monitor keeps in PostgreSQL: history, what jobs use, canary rounds, and how a job is going."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import (
    ArtifactRow,
    CanaryRoundRow,
    JobEventRow,
    JobMetricRow,
    JobRow,
    JobUsageRow,
    MetricHistoryRow,
    MetricSeriesRow,
    ModelRow,
)
from libs.common.errors import InvalidInput, NotFound
from model_training.contracts.jobs import JobKind
from model_training.contracts.monitoring import GpuUsage, JobUsage, RunningJob
from services.monitor.adapters.host import Host
from services.monitor.domain.attribution import ProcessLook
from services.monitor.domain.canaries import Token
from services.monitor.domain.samples import Reading
from services.monitor.domain.serving import Served
from services.monitor.repository import history as store
from services.monitor.service import canaries, history, training, usage
from services.monitor.service.history import HistoryKeeper
from services.monitor.service.usage import UsageKeeper
from tests.conftest import Stores
from tests.integration.monitor.conftest import wait_for


@dataclass
class Machine:
    """Processes of the inference service, as they were looked at; no job runs here."""

    looks: list[ProcessLook]

    def family(self, owner: str) -> list[ProcessLook]:
        return []

    def service(self, name: str) -> list[ProcessLook]:
        assert name == "inference"
        return self.looks


NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """A transaction that is rolled back."""
    with database.engine.connect() as connection:
        transaction = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            session.execute(delete(MetricSeriesRow))
            yield session
        transaction.rollback()


def add_job(session: Session, *, ago_s: float = 100.0, owner: str = "elsewhere:1") -> str:
    now = session.execute(select(func.now())).scalar_one()
    began = now - timedelta(seconds=ago_s)
    row = JobRow(
        id="ftjob_monitor", project_id="proj_default", kind="train", state="running", spec={}, lease_owner=owner,
        progress={"step": 0, "total": 100}, created_at=began - timedelta(seconds=30), queued_at=began, started_at=began,
    )  # fmt: skip
    session.add(row)
    session.flush()
    session.add(
        JobEventRow(
            job_id=row.id,
            sequence=1,
            level="info",
            type="state",
            message="starts",
            data={"fence": 1},
            created_at=began,
        )
    )
    return row.id


def test_minutes_become_hours_and_old_ones_go(session: Session) -> None:
    keeper = HistoryKeeper()
    for minute in range(61):
        at = NOON + timedelta(minutes=minute)
        for value in (minute, minute + 2.0):
            readings = [Reading("mt_x", (("gpu", "0"),), value), Reading("mt_x_bucket", (), 1.0)]
            keeper(session, at, readings)
    series = store.series(session, "mt_x", {"gpu": "0"}, 10)
    assert len(series) == 1
    number = series[0][0]
    minutes = store.points(session, number, store.MINUTE_S, NOON, NOON + timedelta(hours=2))
    assert len(minutes) == 60
    assert minutes[5] == (NOON + timedelta(minutes=5), 6.0, 5.0, 7.0)
    [hour] = store.points(session, number, store.HOUR_S, NOON, NOON + timedelta(hours=2))
    assert hour == (NOON, pytest.approx(30.5), 0.0, 61.0)
    store.forget(session, NOON + timedelta(days=8))
    assert store.points(session, number, store.MINUTE_S, NOON, NOON + timedelta(hours=2)) == []
    assert store.series(session, "mt_x", {}, 10)
    store.forget(session, NOON + timedelta(days=401))
    assert store.series(session, "mt_x", {}, 10) == []


def test_a_minute_that_is_written_twice_stands_once(session: Session) -> None:
    for value in (1.0, 3.0):
        keeper = HistoryKeeper()  # as after a restart
        keeper(session, NOON, [Reading("mt_x", (), value)])
        keeper(session, NOON + timedelta(minutes=1), [])
    [(number, _)] = store.series(session, "mt_x", {}, 10)
    assert [mean for _, mean, _, _ in store.points(session, number, 60, NOON, NOON + timedelta(hours=1))] == [
        3.0
    ]


def test_a_year_is_read_in_hours(session: Session) -> None:
    number = store.series_id(session, "mt_x", {}, "{}")
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=365)
    hours = [
        store.Stretch(number, start + timedelta(hours=hour), hour, hour, hour, 60) for hour in range(8760)
    ]
    store.put(session, hours, store.HOUR_S)
    found = history.read(session, "mt_x", {}, start, None)
    assert found.resolution_s == 3600
    assert len(found.series[0].points) == 8760
    assert history.read(session, "mt_nothing", {}, None, None).series == []
    with pytest.raises(InvalidInput, match="before end"):
        history.read(session, "mt_x", {}, start, start)
    assert session.scalar(select(func.count()).select_from(MetricHistoryRow)) == 8760


def test_a_job_that_works_is_charged_for_it(session: Session, stores: Stores) -> None:
    # A process of this test's own: it is the worker, and what it starts is the job's.
    code = "import time\nwhile True: sum(range(10000))"
    child = subprocess.Popen([sys.executable, "-c", code])
    try:
        job_id = add_job(session, owner=f"{socket.gethostname()}:{os.getpid()}")
        session.add(JobMetricRow(job_id=job_id, step=1, values={"tokens": 500.0}))
        session.flush()
        keeper = UsageKeeper(Host(stores.home), list)

        def used() -> float:
            keeper(session, datetime.now(UTC), [])
            session.expire_all()
            return training.report(session, job_id).usage.cpu_s  # pyright: ignore[reportOptionalMemberAccess]

        first = used()
        wait_for(lambda: used() > first + 0.1, "processor time")
        usage = training.report(session, job_id).usage
        assert usage is not None
        assert usage.memory_peak > 1_000_000
        assert usage.tokens == 500
        assert usage.wall_s > 0
    finally:
        child.kill()
        child.wait()


def test_a_model_is_charged_for_its_answers(session: Session) -> None:
    job_id = add_job(session)
    session.add(JobUsageRow(job_id=job_id, data=JobUsage(energy_j=7200, cpu_s=5).model_dump()))
    session.add(ArtifactRow(sha256="a" * 64, kind="adapter", bytes=1))
    session.flush()
    session.add(
        ModelRow(
            id="ft:mine", project_id="proj_default", base="b", artifact="a" * 64, job_id=job_id, state="ready"
        )
    )
    session.flush()
    counted = {"ft:mine": Served(10, 100), "base": Served(50, 900)}
    machine = Machine([ProcessLook(1, 1, 20, 100)])
    gpu = GpuUsage(
        index=0,
        name="x",
        utilization_percent=100,
        memory_used=1,
        memory_total=2,
        energy_j=0,
        processes={1: 5},
    )
    gpus = [gpu]
    keeper = UsageKeeper(machine, lambda: gpus, lambda: counted)
    keeper(session, NOON, [])  # what was before this monitor is nobody's
    assert usage.of_models(session) == []
    counted |= {"ft:mine": Served(13, 400), "base": Served(51, 1000)}
    machine.looks = [ProcessLook(1, 1, 28, 100)]
    gpus[:] = [gpu.model_copy(update={"energy_j": 4000.0})]
    keeper(session, NOON + timedelta(seconds=10), [])
    session.expire_all()
    mine, base = sorted(usage.of_models(session), key=lambda one: one.model, reverse=True)
    assert (mine.busy_s, mine.tokens, mine.cpu_s, mine.gpu_s, mine.energy_j) == (3, 300, 6, 7.5, 3000)
    assert (base.energy_j, base.training) == (1000, None)
    assert mine.training is not None
    assert mine.training.energy_j == 7200
    assert mine.wh_per_1000_tokens == pytest.approx(3000 / 3600 / 0.3)
    keeper(session, NOON + timedelta(seconds=20), [])
    assert usage.of_models(session, ["ft:mine"]) == [mine]  # what idles is charged to nobody


def test_a_training_is_described_in_words(session: Session) -> None:
    job_id = add_job(session, ago_s=100)
    began = session.get_one(JobRow, job_id).started_at
    assert began is not None
    for step in range(1, 51):
        values = {"loss": 3 - step / 50, "learning_rate": 1e-4}
        at = began + timedelta(seconds=2 * step)
        session.add(JobMetricRow(job_id=job_id, step=step, values=values, created_at=at))
    session.get_one(JobRow, job_id).progress = {"step": 50, "total": 100}
    session.flush()
    report = training.report(session, job_id)
    assert report.remaining is not None
    assert report.remaining.low <= 100 <= report.remaining.high
    assert report.queue_wait_s == pytest.approx(30)
    assert report.sentence.startswith("Step 50 of 100; done in 1:3")
    assert "loss 2.000" in report.sentence
    assert report.findings == []
    late = training.describe(session, RunningJob(id=job_id, kind=JobKind.TRAIN, silent_s=700))
    assert [one.finding for one in late.findings] == ["stalled"]
    with pytest.raises(NotFound):
        training.report(session, "ftjob_none")


def test_another_attempt_forgets_the_pause_before_it(session: Session) -> None:
    job_id = add_job(session, ago_s=1000)
    began = session.get_one(JobRow, job_id).started_at
    assert began is not None
    session.add(
        JobEventRow(
            job_id=job_id, sequence=2, level="info", type="state", message="starts", data={"fence": 2},
            created_at=began + timedelta(seconds=960),
        )
    )  # fmt: skip
    for step in range(1, 41):
        seconds = step if step <= 20 else 960 + step - 20
        at = began + timedelta(seconds=seconds)
        session.add(JobMetricRow(job_id=job_id, step=step, values={"loss": 1.0}, created_at=at))
    session.get_one(JobRow, job_id).progress = {"step": 40, "total": 60}
    session.flush()
    report = training.report(session, job_id)
    assert report.remaining is not None
    assert report.remaining.high < 60  # twenty steps of one second, not of 25


def test_a_swapped_adapter_is_noticed_in_one_round_and_can_be_accepted(session: Session) -> None:
    tuned = [(Token("def", -0.1, (("def", -0.1), ("The", -2.5))),)] * 6
    base = [(Token("The", -0.3, (("The", -0.3), ("def", -1.4))),)] * 6
    assert canaries.judge(session, "ft:mine", tuned, NOON).accepted
    assert not canaries.judge(session, "ft:mine", tuned, NOON).changed
    session.flush()
    swapped = canaries.judge(session, "ft:mine", base, NOON)
    assert swapped.changed
    assert swapped.distance_nats == pytest.approx(1.3)
    session.flush()
    assert canaries.judge(session, "ft:mine", base, NOON).changed  # it stays noticed
    session.flush()
    assert not canaries.accept(session, "ft:mine").changed
    session.flush()
    assert not canaries.judge(session, "ft:mine", base, NOON).changed
    session.flush()
    [listed] = canaries.listed(session)
    assert listed.answers == ["The"] * 6
    with pytest.raises(NotFound, match="never asked"):
        canaries.accept(session, "ft:other")
    assert session.scalar(select(func.count()).select_from(CanaryRoundRow)) == 5
