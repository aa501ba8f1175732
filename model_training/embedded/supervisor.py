"""Starts the processes in dependency order, restarts what crashes, and leaves nothing behind.

One thread and one loop: the kernel ties a child's death signal to the thread that forked it. It writes its state where
`mt status` and `mt down` read it. It knows nothing of what the processes do.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import FrameType

from model_training.embedded import process
from model_training.embedded.plan import Options, child_environment, make_units
from model_training.embedded.progress import Report, read_report
from model_training.embedded.state import PlatformState, ServiceState, process_created
from model_training.embedded.units import Unit
from model_training.errors import UserError
from model_training.home import Home

TICK_S = 0.1
CALM_TICK_S = 0.25  # once everything runs
REAP_S = 5.0  # looking for orphans reads every process of the machine
CHECK_S = 5.0  # how often a process that serves is asked whether it still can
STABLE_S = 60.0  # a process that lived this long starts with the shortest back-off again
LONGEST_BACKOFF_S = 30.0
STOP_GRACE_S = (20.0, 10.0)  # by stop rank: services, stores
NEEDED_BYTES = 300_000_000

OnChange = Callable[[PlatformState], None]


@dataclass
class Running:
    """A unit and what became of it. Times are on the monotonic clock."""

    unit: Unit
    state: ServiceState
    child: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    next_check: float = 0.0
    restart_at: float = 0.0
    failures: int = 0
    log_offset: int = 0

    @property
    def satisfied(self) -> bool:
        """May those that need this one start?"""
        return self.state.condition in ("ready", "done", "unready")


class Supervisor:
    """Runs one platform in this process until it is told to stop."""

    def __init__(self, options: Options, *, on_change: OnChange = lambda state: None) -> None:
        self._options = options
        self._home = Home(options.home.absolute())
        self._on_change = on_change
        self._running: list[Running] = []
        self._stop = False
        self._saved = ""
        self._state = PlatformState(
            pid=os.getpid(),
            created=process_created(os.getpid()),
            home=str(self._home.root),
            gateway_url=options.gateway_url,
            started_at=time.time(),
        )

    def run(self) -> None:
        """Start everything, watch over it until SIGTERM, SIGINT or SIGHUP, and stop everything.

        Raises:
            UserError: a port is taken, the disk is full, or a process did not start; nothing runs any more then.
        """
        self._home.create()
        with self._alone(), self._signals():
            process.adopt_orphans()
            try:
                self._prepare()
                self._loop()
            except UserError as error:
                self._state.error, self._state.hint = error.message, error.hint
                raise
            finally:
                self._stop_everything()

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        """The kernel lets go of the lock when this process ends, however it ends."""
        with self._home.lock_file.open("w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"A platform already runs in {self._home.root}.",
                    hint="See it with `mt status`, end it with `mt down`, or start another with --home DIR.",
                ) from error
            yield

    @contextlib.contextmanager
    def _signals(self) -> Generator[None]:
        def ask(signum: int, frame: FrameType | None) -> None:
            self._stop = True

        wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {which: signal.signal(which, ask) for which in wanted}
        try:
            yield
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)

    def _prepare(self) -> None:
        free = shutil.disk_usage(self._home.root).free
        if free < NEEDED_BYTES:
            raise UserError(
                f"{self._home.root} has {free / 1e6:.0f} MB left on its disk; the platform needs"
                f" {NEEDED_BYTES / 1e6:.0f} MB.",
                hint="Free some space, or name a directory on another disk with --home DIR.",
            )
        self._options.check()
        self._publish()
        self._running = [
            Running(unit, ServiceState(name=unit.name, port=unit.port))
            for unit in make_units(self._options, self._home)
        ]

    def _loop(self) -> None:
        reap_at = 0.0
        while not self._stop:
            for running in self._running:
                self._advance(running)
            if self._state.phase == "starting" and all(r.satisfied for r in self._running):
                self._state.phase, self._state.ready_at = "ready", time.time()
            if time.monotonic() >= reap_at:
                process.reap_orphans({r.child.pid for r in self._running if r.child})
                reap_at = time.monotonic() + REAP_S
            self._publish()
            time.sleep(TICK_S if self._state.phase == "starting" else CALM_TICK_S)

    def _advance(self, running: Running) -> None:
        state, now = running.state, time.monotonic()
        if running.child is None:
            rested = state.condition == "restarting" and now >= running.restart_at
            if rested or (state.condition == "waiting" and self._may_start(running)):
                self._start(running)
        elif running.child.poll() is not None:
            self._ended(running, running.child.returncode)
        elif running.unit.check is None:
            self._listen(running)
            self._check_deadline(running, now)
        elif now >= running.next_check:
            self._check(running, running.unit.check(), now)

    def _listen(self, running: Running) -> Report:
        """Take over what a one-off step says of itself."""
        report = read_report(self._home.log(running.unit.name), running.log_offset)
        running.state.message = report.message
        self._state.notices += [n for n in report.notices if n not in self._state.notices]
        return report

    def _may_start(self, running: Running) -> bool:
        needed = set(running.unit.needs)
        return all(other.satisfied for other in self._running if other.unit.name in needed)

    def _start(self, running: Running) -> None:
        unit, state = running.unit, running.state
        log = self._home.log(unit.name)
        process.rotate(log)
        running.log_offset = log.stat().st_size if log.exists() else 0
        running.child = process.spawn(
            unit.command,
            env=child_environment(unit),
            log=log,
            cwd=self._home.root,
            user=unit.user,
            death_signal=unit.death_signal,
        )
        running.started = time.monotonic()
        running.next_check = running.started
        state.pid, state.started_at, state.message = running.child.pid, time.time(), ""
        state.condition = "starting"

    def _check(self, running: Running, reason: str | None, now: float) -> None:
        state = running.state
        if reason is None:
            state.condition, state.message = "ready", ""
            running.next_check = now + CHECK_S
        elif state.condition == "starting":
            running.next_check = now + 2 * TICK_S
            self._check_deadline(running, now, reason)
        else:
            state.condition, state.message = "unready", reason
            running.next_check = now + 1.0

    def _check_deadline(self, running: Running, now: float, reason: str = "") -> None:
        if self._state.phase == "starting" and now - running.started > running.unit.start_timeout_s:
            why = f" ({reason})" if reason else ""
            raise self._start_failure(
                running, f"is not ready after {running.unit.start_timeout_s:.0f} s{why}"
            )

    def _ended(self, running: Running, code: int) -> None:
        state, running.child = running.state, None
        state.pid = None
        if running.unit.check is None and code == 0:
            self._listen(running)
            state.condition, state.message = "done", ""
            return
        if self._state.phase == "starting":
            raise self._start_failure(running, f"ended while starting, with {_describe_exit(code)}")
        lived = time.monotonic() - running.started
        running.failures = 1 if lived > STABLE_S else running.failures + 1
        pause = min(LONGEST_BACKOFF_S, 0.5 * 2 ** (running.failures - 1))
        running.restart_at = time.monotonic() + pause
        state.restarts += 1
        state.condition = "restarting"
        state.message = f"ended with {_describe_exit(code)}; starts again in {pause:.1f} s"

    def _start_failure(self, running: Running, what: str) -> UserError:
        name = running.unit.name
        report = self._listen(running) if running.unit.check is None else Report()
        if report.error is not None:
            return UserError(report.error, hint=report.hint)
        last = process.tail(self._home.log(name))
        shown = f" Its log ends with:\n{last}\n" if last else " "
        return UserError(
            f"{name} {what}.{shown}",
            hint=f"The whole log is {self._home.log(name)}. Nothing was left running; mend it and run `mt up` again.",
        )

    def _stop_everything(self) -> None:
        failed = self._state.error is not None
        self._state.phase = "stopping"
        self._publish()
        for rank, grace_s in enumerate(STOP_GRACE_S):
            ranked = [r for r in self._running if r.unit.stop_rank == rank and r.child is not None]
            process.stop_all([(r.child, r.unit.stop_signal) for r in ranked if r.child], grace_s)
            if rank == 0:
                process.kill_descendants(
                    keep={r.child.pid for r in self._running if r.unit.stop_rank > rank and r.child}
                )
            for running in ranked:
                running.state.condition, running.state.pid = "stopped", None
        process.kill_descendants()
        self._state.phase = "failed" if failed else "stopped"
        self._publish()

    def _publish(self) -> None:
        self._state.services = [r.state for r in self._running]
        text = self._state.model_dump_json()
        if text != self._saved:
            self._saved = text
            self._state.save(self._home)
            self._on_change(self._state)


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
