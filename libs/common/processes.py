"""A service as several processes on one port.

Every process listens by itself (SO_REUSEPORT), and the kernel shares new connections out among them. They are forked from
one that has imported everything and does nothing but watch: a process that is killed is started again, one whose event
loop stands still is killed, none outlives it. A thread that hangs beside a loop that turns is not seen.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
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
"""How long processes that are told to stop may take, unless their caller says otherwise."""
BEAT_S = 1.0
"""Between two signs of life of a process."""
HANG_S = 30.0
"""A process that gives no sign of life for as long is killed and started again."""
METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that has all processes count in one place; prometheus_client reads it when it is imported."""

_STOPPING = frozenset({signal.SIGTERM, signal.SIGINT})
_WATCHED = _STOPPING | {signal.SIGCHLD}
_PR_SET_PDEATHSIG = 1
_pulse: int | None = None
"""In a process that is watched: where its signs of life go."""


def beat() -> None:
    """Give a sign of life, every `BEAT_S` from the loop that does the work; nothing where nobody watches.

    Whoever has given one is expected to go on.
    """
    if _pulse is not None:
        # Full: who watches is slower than we are. Broken: it is gone, and we are about to be.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(_pulse, b".")


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


def run_processes(
    serve: Callable[[], None], url: str, count: int, *, stop_s: float = STOP_S, hang_s: float = HANG_S
) -> None:
    """Run `serve` in so many processes until SIGTERM or SIGINT; one is run here.

    Several must each listen on a `listening_socket(url)` of their own. Call this before the process has any thread,
    connection or event loop: each makes its own.

    Args:
        stop_s: how long they may take to stop when they are told to; then they are killed.
        hang_s: how long a process that has called `beat` may be silent before it is killed and started again.

    Raises:
        SystemExit: a process gave up by itself (it could not start, say); the others are stopped, and its code is ours.
        OSError: another program has the port.
    """
    _forget_metrics()
    if count == 1:
        serve()
        return
    with _reserved(url):
        Processes(serve, count, stop_s, hang_s).run()


@dataclass
class _Place:
    process: ForkProcess | None = None
    pulse: int = -1
    started: float = 0.0
    silent_s: float | None = None
    """Since its last sign of life; None before the first."""

    def listen(self, passed_s: float) -> None:
        try:
            heard = bool(os.read(self.pulse, 4096))
        except BlockingIOError:
            heard = False
        if heard:
            self.silent_s = 0.0
        elif self.silent_s is not None:
            self.silent_s += passed_s


class Processes:
    """Keeps `count` forked processes running; `run_processes` explains the arguments."""

    def __init__(self, serve: Callable[[], None], count: int, stop_s: float, hang_s: float) -> None:
        self._serve = serve
        self._places = [_Place() for _ in range(count)]
        self._stop_s = stop_s
        self._hang_s = hang_s

    def run(self) -> None:
        """Start them and start again what is killed, until a signal asks us to stop."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            while True:
                self._start_missing()
                self._end_hanging()
                told = signal.sigtimedwait(_WATCHED, RESTART_PAUSE_S)
                if told is not None and told.si_signo in _STOPPING:
                    return
        finally:
            self._stop()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _start_missing(self) -> None:
        for place in self._places:
            if place.process is not None and place.process.is_alive():
                continue
            if place.process is not None:
                self._note_end(place.process)
                os.close(place.pulse)
                place.process = None
            if time.monotonic() - place.started >= RESTART_PAUSE_S:
                self._fork(place)

    def _end_hanging(self) -> None:
        for place in self._places:
            if place.process is None:
                continue
            # Rounds are counted, not time: when the whole machine stood still, nobody was silent.
            place.listen(RESTART_PAUSE_S)
            if place.silent_s is not None and place.silent_s >= self._hang_s:
                log.error("process_hangs", pid=place.process.pid, silent_s=place.silent_s)
                place.process.kill()
                place.process.join()

    def _note_end(self, process: ForkProcess) -> None:
        code = process.exitcode or 0
        log.warning("process_ended", pid=process.pid, exit_code=code)
        if code > 0:
            raise SystemExit(code)

    def _fork(self, place: _Place) -> None:
        place.pulse, theirs = os.pipe()
        os.set_blocking(place.pulse, False)
        os.set_blocking(theirs, False)
        process = get_context("fork").Process(target=_become, args=(self._serve, os.getpid(), theirs))
        process.start()
        os.close(theirs)
        place.process, place.started, place.silent_s = process, time.monotonic(), None

    def _stop(self) -> None:
        running = [place.process for place in self._places if place.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + self._stop_s
        for process in running:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()


def _become(serve: Callable[[], None], parent: int, pulse: int) -> None:
    global _pulse
    _pulse = pulse
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
