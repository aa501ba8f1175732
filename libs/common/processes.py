"""A service as several processes on one port.

Every process listens by itself (SO_REUSEPORT), and the kernel shares new connections out among them. They are forked from
one that has imported everything and does nothing but watch: a process that is killed is started again, none outlives it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path

import structlog

from libs.common.settings import host_of, port_of

log = structlog.get_logger(__name__)

MOST = 4
RESTART_PAUSE_S = 0.5
"""A process that is killed again and again is started so often at most."""
PORT_WAIT_S = 10.0
"""How long to wait for the port: processes of a watcher that was killed may hold it for a moment."""
STOP_S = 12.0
METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that has all processes count in one place; prometheus_client reads it when it is imported."""

_STOPPING = frozenset({signal.SIGTERM, signal.SIGINT})
_WATCHED = _STOPPING | {signal.SIGCHLD}
_PR_SET_PDEATHSIG = 1


def default_count() -> int:
    """A process for each core that we may use, `MOST` at most."""
    return min(MOST, len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1)


def listening_socket(url: str) -> socket.socket:
    """A socket at the address of `url` that other processes of ours may bind too; the server makes it listen.

    Raises:
        OSError: another program has the port.
    """
    found = socket.socket(socket.AF_INET6 if ":" in host_of(url) else socket.AF_INET)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found.bind((host_of(url), port_of(url)))
    return found


def run_processes(serve: Callable[[], None], url: str, count: int) -> None:
    """Run `serve` in so many processes until SIGTERM or SIGINT; one is run here.

    Several must each listen on a `listening_socket(url)` of their own. Call this before the process has any thread,
    connection or event loop: each makes its own.

    Raises:
        SystemExit: a process gave up by itself (it could not start, say); the others are stopped, and its code is ours.
        OSError: another program has the port.
    """
    _forget_metrics()
    if count == 1:
        serve()
        return
    with _reserved(url):
        Processes(serve, count).run()


class Processes:
    """Keeps `count` forked processes running."""

    def __init__(self, serve: Callable[[], None], count: int) -> None:
        self._serve = serve
        self._places: list[ForkProcess | None] = [None] * count
        self._started = [0.0] * count

    def run(self) -> None:
        """Start them and start again what is killed, until a signal asks us to stop."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            while True:
                self._start_missing()
                told = signal.sigtimedwait(_WATCHED, RESTART_PAUSE_S)
                if told is not None and told.si_signo in _STOPPING:
                    return
        finally:
            self._stop()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _start_missing(self) -> None:
        for place, process in enumerate(self._places):
            if process is not None and process.is_alive():
                continue
            if process is not None and self._started[place]:
                self._note_end(process)
                self._places[place] = None
            if time.monotonic() - self._started[place] >= RESTART_PAUSE_S:
                self._places[place] = self._fork()
                self._started[place] = time.monotonic()

    def _note_end(self, process: ForkProcess) -> None:
        code = process.exitcode or 0
        log.warning("process_ended", pid=process.pid, exit_code=code)
        if code > 0:
            raise SystemExit(code)

    def _fork(self) -> ForkProcess:
        process = get_context("fork").Process(target=_become, args=(self._serve, os.getpid()))
        process.start()
        return process

    def _stop(self) -> None:
        running = [process for process in self._places if process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in running:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()


def _become(serve: Callable[[], None], parent: int) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
    serve()


@contextmanager
def _reserved(url: str) -> Generator[None]:
    """Hold the port as long as the block runs, so that nobody takes it while no process of ours listens."""
    deadline = time.monotonic() + PORT_WAIT_S
    while True:
        try:
            with socket.socket(socket.AF_INET6 if ":" in host_of(url) else socket.AF_INET) as probe:
                # Without SO_REUSEPORT: a program that listens there is seen, also if it would share.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host_of(url), port_of(url)))
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    with listening_socket(url):
        yield


def _forget_metrics() -> None:
    """Counters of processes that are long gone would be added to ours."""
    directory = os.environ.get(METRICS_DIRECTORY)
    for file in Path(directory).glob("*.db") if directory else ():
        file.unlink(missing_ok=True)
