"""The supervisor with real PostgreSQL and Valkey and a toy service: start, crash, stop, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from model_training.embedded.plan import Options
from model_training.embedded.platform import Platform
from model_training.embedded.ports import free_port
from model_training.embedded.postgres import database_url
from model_training.embedded.state import PlatformState, ServiceState, load
from model_training.embedded.units import ServiceSpec
from model_training.errors import UserError
from model_training.home import Home

HERE = Path(__file__).parent
TOY = (ServiceSpec("gateway", "toy_service", 0),)


@pytest.fixture(autouse=True)
def toy_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))


def toy_platform(home: Path) -> Platform:
    return Platform(home, port_base=free_port(), model=None, services=TOY, migrate=False)


@pytest.fixture
def platform(base: Path) -> Iterator[Platform]:
    platform = toy_platform(base / "home")
    with platform.running():
        yield platform


def service(platform: Platform, name: str) -> ServiceState:
    state = platform.state
    assert state is not None
    return next(s for s in state.services if s.name == name)


def family(state: PlatformState) -> list[psutil.Process]:
    """The supervisor and everything below it."""
    supervisor = psutil.Process(state.pid)
    return [supervisor, *supervisor.children(recursive=True)]


def eventually(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_a_platform_serves_and_leaves_nothing(base: Path) -> None:
    platform = toy_platform(base / "home")
    with platform.running() as state:
        assert [s.condition for s in state.services] == ["ready", "ready", "ready"]
        saved = json.loads(platform.home.state_file.read_text(encoding="utf-8"))
        assert saved["gateway_url"] == platform.options.gateway_url
        with psycopg.connect(database_url(platform.home).replace("+psycopg", "")) as connection:
            assert connection.execute("select 40 + 2").fetchone() == (42,)
        secrets = platform.home.secrets()
        port = service(platform, "valkey").port
        assert redis.Redis(port=port or 0, password=secrets.broker_password).ping()
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port or 0).ping()
        assert platform.home.api_key_file.stat().st_mode & 0o777 == 0o600
        processes = family(state)
        assert len(processes) > 5
        with pytest.raises(UserError, match="already runs"):
            platform.start()
        assert platform.is_ready, "the refused second start must not disturb the first"
    assert platform.state is None
    assert all_gone(processes)
    assert platform.stop() is False


def test_data_survive_and_a_crashed_supervisor_leaves_nothing(base: Path) -> None:
    platform = toy_platform(base / "home")
    url = database_url(platform.home).replace("+psycopg", "")
    state = platform.ensure_running()
    with psycopg.connect(url) as connection:
        connection.execute("create table kept as select 7 as seven")
    processes = family(state)
    toy = psutil.Process(service(platform, "gateway").pid or 0)
    grandchildren = toy.children()
    services = [p for p in processes if p not in grandchildren]
    psutil.Process(state.pid).kill()
    # A service's own child ends by itself when its parent's pipe closes; the toy's does not know how.
    eventually(lambda: all_gone(services))
    for child in grandchildren:
        child.kill()
    assert platform.state is None
    with platform.running(), psycopg.connect(url) as connection:
        assert connection.execute("select seven from kept").fetchone() == (7,)


def test_a_killed_process_is_restarted(platform: Platform) -> None:
    for name in ("gateway", "postgres"):
        before = service(platform, name)
        psutil.Process(before.pid or 0).kill()
        eventually(lambda name=name: service(platform, name).restarts == 1)
        eventually(lambda name=name: service(platform, name).condition == "ready")
        assert service(platform, name).pid != before.pid
    assert "SIGKILL" not in service(platform, "gateway").message


def test_a_taken_port_is_named_with_its_holder(base: Path) -> None:
    platform = toy_platform(base / "home")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", platform.options.port_base))
        holder.listen()
        with pytest.raises(UserError) as error:
            platform.start()
    assert f"Port {platform.options.port_base} for gateway is taken by" in error.value.message
    assert f"(pid {psutil.Process().pid})" in error.value.message
    assert "--port-base" in (error.value.hint or "")
    with platform.running():  # the next try works
        assert platform.is_ready


def test_a_service_that_dies_at_start_shows_its_log(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FAILS", "1")
    platform = toy_platform(base / "home")
    with pytest.raises(UserError, match="its spring is broken") as error:
        platform.start()
    assert "gateway ended while starting, with exit code 1" in error.value.message
    state = load(platform.home)
    assert state is not None
    assert state.phase == "failed"
    assert not state.is_alive
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(base) in " ".join(p.info["cmdline"] or [])]


def test_ctrl_c_in_the_foreground_stops_everything(base: Path) -> None:
    options = Options(home=base / "home", port_base=free_port(), model=None, services=TOY, migrate=False)
    foreground = subprocess.Popen(
        [sys.executable, "-m", "model_training.embedded", options.model_dump_json()]
    )
    home = Home(options.home)
    eventually(lambda: (state := load(home)) is not None and state.phase == "ready")
    processes = psutil.Process(foreground.pid).children(recursive=True)
    foreground.send_signal(signal.SIGINT)
    assert foreground.wait(20) == 0
    assert all_gone(processes)


def test_a_recycled_pid_is_never_stopped(base: Path) -> None:
    platform = toy_platform(base / "home")
    platform.home.create()
    innocent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        stale = PlatformState(
            pid=innocent.pid, created=1.0, home="", gateway_url="", started_at=1.0, phase="ready"
        )
        stale.save(platform.home)
        assert platform.state is None
        assert platform.stop() is False
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_an_interrupted_cluster_is_made_again_also_where_paths_are_long(base: Path) -> None:
    platform = toy_platform(base / ("long" * 30))
    platform.home.create()
    half = platform.home.postgres / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("half", encoding="utf-8")
    with platform.running():
        assert not half.exists()
        socket_directory = Path(database_url(platform.home).partition("host=")[2])
        assert len(str(socket_directory)) < 80, "a Unix socket's path has 107 bytes at most"
    socket_directory.rmdir()


def test_port_base_out_of_range_is_refused(base: Path) -> None:
    with pytest.raises(UserError, match="--port-base 65535 must be a number between 1 and 65527"):
        Options(home=base, port_base=65_535).check()
