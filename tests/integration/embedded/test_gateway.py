"""Client and command line against a real gateway: `mt up` with PostgreSQL, Valkey, migrations, gateway and monitor.

No worker runs, so jobs stay queued: what is tested is the way to the gateway and back.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from model_training.cli.main import app
from model_training.client import ApiError, Client, JobFailed
from model_training.client.resources import jobs as jobs_resource
from model_training.contracts.jobs import JobState
from model_training.embedded.platform import Platform
from model_training.embedded.ports import is_free
from model_training.embedded.units import SERVICES

WANTED = {"gateway", "keeper", "monitor"}
ROW = {"question": "What is LoRA?", "answer": "A low-rank adapter."}
runner = CliRunner()


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    port = next(b for b in range(21_000, 60_000, 50) if all(is_free(b + i) for i in range(8)))
    services = tuple(spec for spec in SERVICES if spec.name in WANTED)
    with tempfile.TemporaryDirectory(prefix="mt-test-") as home:
        platform = Platform(home, port_base=port, model=None, services=services)
        with platform.running():
            yield platform


@pytest.fixture
def client(platform: Platform) -> Iterator[Client]:
    with Client(home=platform.home.root) as client:
        yield client


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({**ROW, "id": str(n)}) + "\n" for n in range(3)), encoding="utf-8")
    return path


@pytest.fixture
def at_home(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MT_HOME", str(platform.home.root))
    for name in ("MT_GATEWAY_URL", "MT_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_the_key_in_the_data_directory_opens_and_another_does_not(platform: Platform, client: Client) -> None:
    assert client.jobs.list().object == "list"
    with Client(client.base_url, "mt-guessed") as stranger, pytest.raises(ApiError) as caught:
        stranger.jobs.list()
    assert caught.value.status == 401


def test_a_file_goes_up_and_comes_back(client: Client, rows: Path) -> None:
    file = client.files.upload(rows, "fine-tune")
    assert client.files.content(file.id) == rows.read_bytes()
    assert client.files.report(file.id).rows == 3
    assert file.id in [f.id for f in client.files.list(purpose="fine-tune").data]
    assert client.files.delete(file.id).deleted
    with pytest.raises(ApiError, match="no file"):
        client.files.get(file.id)


def test_a_faulty_row_is_named(client: Client, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(ROW) + '\n{"question": "q"}\n', encoding="utf-8")
    with pytest.raises(ApiError) as caught:
        client.files.upload(bad, "fine-tune")
    assert [fault.row for fault in caught.value.rows] == [2]
    assert "row 2" in caught.value.message


def test_a_job_is_followed_to_its_end_by_stream_and_by_page(
    client: Client, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_resource, "POLL_S", 0.1)
    file = client.files.upload(rows, "fine-tune")
    job = client.fine_tuning.create("gemma-3-270m", file.id, training={"epochs": 1})
    seen: list[str] = []
    watching = threading.Thread(target=lambda: seen.extend(e.message for e in client.jobs.watch(job.id)))
    watching.start()
    time.sleep(0.5)
    assert client.jobs.get(job.id).state == JobState.QUEUED
    client.jobs.cancel(job.id)
    watching.join(60)
    assert not watching.is_alive()
    pages = [event.message for event in client.jobs.events(job.id).data]
    assert seen == pages
    assert len(seen) >= 2
    with pytest.raises(JobFailed, match="cancelled"):
        client.jobs.wait(job.id)


def test_a_setting_that_breaks_a_rule_is_named(client: Client, rows: Path) -> None:
    file = client.files.upload(rows, "fine-tune")
    with pytest.raises(ApiError) as caught:
        client.fine_tuning.create("gemma-3-270m", file.id, training={"learning_rate": -1})
    assert caught.value.param == "learning_rate"
    with pytest.raises(ApiError, match="gemma-9-9b"):
        client.fine_tuning.create("gemma-9-9b", file.id)


def test_a_watcher_survives_the_gateways_death(platform: Platform, client: Client, rows: Path) -> None:
    file = client.files.upload(rows, "fine-tune")
    job = client.fine_tuning.create("gemma-3-270m", file.id)
    seen: list[int] = []
    watching = threading.Thread(target=lambda: seen.extend(e.sequence for e in client.jobs.watch(job.id)))
    watching.start()
    time.sleep(0.5)
    state = platform.state
    assert state is not None
    pid = next(s.pid for s in state.services if s.name == "gateway")
    psutil.Process(pid or 0).kill()
    time.sleep(1.0)
    with Client(home=platform.home.root, attempts=8) as patient:
        patient.jobs.cancel(job.id)
    watching.join(60)
    assert not watching.is_alive()
    assert seen == list(range(1, len(seen) + 1)), "no event twice, none missed"
    assert len(seen) >= 2


def test_the_monitor_sees_services_and_queue(client: Client, rows: Path) -> None:
    file = client.files.upload(rows, "fine-tune")
    job = client.fine_tuning.create("gemma-3-270m", file.id)
    resources = client.monitoring.resources()
    client.jobs.cancel(job.id)
    assert {"postgres", "valkey", "gateway", "monitor"} <= {s.name for s in resources.services}
    assert all(s.memory > 1_000_000 for s in resources.services)
    train = next(q for q in resources.queues if q.kind == "train")
    assert train.queued >= 1
    assert 0 < resources.host.memory_used < resources.host.memory_total


def test_readings_are_watched_across_the_gateways_death(platform: Platform, client: Client) -> None:
    state = platform.state
    assert state is not None
    pid = next(s.pid for s in state.services if s.name == "gateway")
    readings = client.monitoring.watch()
    seen = [next(readings).taken_at for _ in range(3)]
    psutil.Process(pid or 0).kill()
    seen.append(next(readings).taken_at)
    readings.close()
    assert seen == sorted(set(seen))


@pytest.mark.usefixtures("at_home")
def test_the_command_line_reaches_it(rows: Path) -> None:
    uploaded = runner.invoke(app, ["files", "upload", str(rows), "--json"])
    assert uploaded.exit_code == 0, uploaded.output
    file_id = json.loads(uploaded.stdout)["id"]
    assert file_id in runner.invoke(app, ["files", "list"]).output
    assert "3 rows" in runner.invoke(app, ["files", "show", file_id]).output
    assert runner.invoke(app, ["files", "delete", file_id]).exit_code == 0
    missing = runner.invoke(app, ["files", "show", file_id])
    assert missing.exit_code == 1
    assert "There is no file" in missing.output
    status = json.loads(runner.invoke(app, ["status", "--json"]).stdout)
    assert status["phase"] == "ready"
    again = runner.invoke(app, ["up"])
    assert again.exit_code == 0
    assert "already" in again.output
