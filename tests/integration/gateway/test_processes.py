"""A service as several processes on one port: shared out, started again, ended together, counted together."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import ROOT, free_ports

COUNT = 3


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except httpx.HTTPError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"waited for {what} in vain")


@contextmanager
def service(url: str, *arguments: str, metrics: Path | None = None) -> Generator[subprocess.Popen[bytes]]:
    environment = os.environ | ({"PROMETHEUS_MULTIPROC_DIR": str(metrics)} if metrics else {})
    command = [sys.executable, "-m", "tests.integration.gateway.several", url, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def url() -> str:
    return f"http://127.0.0.1:{free_ports(1)}"


@pytest.fixture
def running(url: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with service(url, str(COUNT), metrics=tmp_path) as process:
        wait_for(lambda: httpx.get(f"{url}/readyz").is_success, "the service")
        yield process


def who(url: str) -> int:
    """The process that a new connection reaches."""
    return httpx.get(f"{url}/pid", timeout=60).json()


def reached(url: str, wanted: Callable[[set[int]], bool]) -> set[int]:
    """The processes that answer, once those are among them that are wanted."""
    seen: set[int] = set()

    def ask() -> bool:
        seen.add(who(url))
        return wanted(seen)

    wait_for(ask, "all processes to answer")
    return seen


def asked(url: str) -> float:
    """How often all processes together were asked, as they count it."""
    text = httpx.get(f"{url}/metrics", timeout=60).text
    found = re.search(r"^asked_total (\S+)$", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def test_processes_share_the_port_count_together_and_are_replaced(
    url: str, running: subprocess.Popen[bytes]
) -> None:
    before = reached(url, lambda seen: len(seen) == COUNT)
    counted = asked(url)
    for _ in range(10):
        who(url)
    assert asked(url) == counted + 10
    victim = before.pop()
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(victim), "the victim to be gone")
    after = reached(url, lambda seen: len(seen) == COUNT)
    assert before < after
    assert victim not in after
    assert running.poll() is None
    assert asked(url) > counted + 10, "what the victim has counted stays"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_none_outlives_the_one_that_watches(
    url: str, running: subprocess.Popen[bytes], how: signal.Signals
) -> None:
    pids = {child.pid for child in psutil.Process(running.pid).children()}
    assert len(pids) == COUNT
    running.send_signal(how)
    code = running.wait(60)
    assert code == (-how if how == signal.SIGKILL else 0)
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids), "all to be gone")


def test_a_process_that_hangs_without_dying_is_replaced(url: str) -> None:
    with service(url, "2", "hang_s=2") as process:
        wait_for(lambda: httpx.get(f"{url}/readyz").is_success, "the service")
        victim = who(url)
        os.kill(victim, signal.SIGSTOP)
        wait_for(lambda: not psutil.pid_exists(victim), "the one that hangs to be gone")
        assert victim not in reached(url, lambda seen: len(seen) >= 2)
        assert process.poll() is None


def test_what_is_being_written_is_finished_and_what_never_ends_is_left(url: str, tmp_path: Path) -> None:
    until = tmp_path / "until"
    with service(url, "2", "drain_s=300") as process:
        wait_for(lambda: httpx.get(f"{url}/readyz").is_success, "the service")
        with (
            httpx.stream("GET", f"{url}/answer", params={"until": str(until)}, timeout=120) as answer,
            httpx.stream("GET", f"{url}/events", timeout=120) as events,
        ):
            texts = answer.iter_text()
            said = [next(texts)]
            process.send_signal(signal.SIGTERM)
            assert "".join(events.iter_text()) == "begun and left"
            wait_for(lambda: refuses(url), "the port to close")
            assert process.poll() is None, "the answer is still being written"
            until.touch()
            assert "".join([*said, *texts]) == "begun and ended"
        assert process.wait(120) == 0


def refuses(url: str) -> bool:
    """Whether nobody listens there any more."""
    try:
        httpx.get(f"{url}/readyz", timeout=60)
    except httpx.ConnectError:
        return True
    return False


def test_a_process_that_gives_up_ends_the_service_with_its_code(url: str) -> None:
    with service(url, "2", "give-up") as process:
        assert process.wait(120) == 7


def test_a_port_of_another_program_is_not_shared(url: str) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", int(url.rpartition(":")[2])))
        other.listen()
        with service(url, "2") as process:
            _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"Address already in use" in said
