"""The platform as a library: start it, find it, stop it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import psutil

from model_training.embedded import process
from model_training.embedded.plan import Options
from model_training.embedded.state import PlatformState, current, load
from model_training.embedded.supervisor import Supervisor
from model_training.embedded.units import SERVICES, ServiceSpec
from model_training.errors import UserError
from model_training.home import Home, default_home

OnChange = Callable[[PlatformState], None]

POLL_S = 0.1
STOP_TIMEOUT_S = 45.0


def _ignore(state: PlatformState) -> None:
    """Nobody wants to know."""


class Platform:
    """One platform, named by its data directory.

    Args:
        home: the data directory; `MT_HOME` or `~/.local/share/model-training` when None.
        port_base: the gateway's port; the other services take the eight that follow.
        model: the base model that is prepared before the first start; None prepares none.
        services: which services to run; all of them by default.
        migrate: bring the database's tables up to date before the services start.
    """

    def __init__(
        self,
        home: Path | str | None = None,
        *,
        port_base: int = 8000,
        model: str | None = "gemma-3-270m",
        services: tuple[ServiceSpec, ...] = SERVICES,
        migrate: bool = True,
    ) -> None:
        root = Path(home).expanduser().absolute() if home else default_home().absolute()
        self.home = Home(root)
        self.options = Options(
            home=root, port_base=port_base, model=model, services=services, migrate=migrate
        )

    @property
    def state(self) -> PlatformState | None:
        """What runs now; None when nothing does."""
        return current(self.home)

    @property
    def is_ready(self) -> bool:
        """Does the platform run, with every service started?"""
        state = self.state
        return state is not None and state.phase == "ready"

    def ensure_running(self, on_change: OnChange = _ignore) -> PlatformState:
        """Find the platform, or start it in the background; return when it is ready. It keeps running.

        Raises:
            UserError: it did not start; nothing is left running then.
        """
        state = self.state
        if state is not None:
            return state if state.phase == "ready" else self._wait_until_ready(on_change)
        return self.start(on_change)

    def start(self, on_change: OnChange = _ignore) -> PlatformState:
        """Start the platform in the background and wait until it is ready.

        Raises:
            UserError: it runs already, or did not start; a failed start leaves nothing running.
        """
        self.home.create()
        log = self.home.log("supervisor")
        process.rotate(log)
        with log.open("ab") as output:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "model_training.embedded", self.options.model_dump_json()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.home.root,
            )
        try:
            return self._wait_until_ready(on_change, supervisor)
        except BaseException:
            supervisor.terminate()
            supervisor.wait(STOP_TIMEOUT_S)
            raise

    def run(self, on_change: OnChange = _ignore) -> None:
        """Run the platform in this process until Ctrl-C or SIGTERM.

        Raises:
            UserError: it runs already, or did not start; a failed start leaves nothing running.
        """
        Supervisor(self.options, on_change=on_change).run()

    def stop(self) -> bool:
        """Stop the platform, from any process. False when none ran.

        Raises:
            UserError: the supervisor belongs to another user.
        """
        state = self.state
        if state is None:
            return False
        try:
            supervisor = psutil.Process(state.pid)
            supervisor.terminate()
            try:
                supervisor.wait(STOP_TIMEOUT_S)
            except psutil.TimeoutExpired:
                supervisor.kill()  # the kernel ends its children with it
                supervisor.wait(5)
        except psutil.AccessDenied as error:
            raise UserError(
                f"The platform (pid {state.pid}) belongs to another user.", hint="Run `mt down` as that user."
            ) from error
        except psutil.NoSuchProcess:
            pass
        return True

    @contextmanager
    def running(self, on_change: OnChange = _ignore) -> Generator[PlatformState]:
        """A running platform for the length of a block; one that this block started is stopped at its end."""
        found = self.state is not None
        state = self.ensure_running(on_change)
        try:
            yield state
        finally:
            if not found:
                self.stop()

    def _wait_until_ready(
        self, on_change: OnChange, supervisor: subprocess.Popen[bytes] | None = None
    ) -> PlatformState:
        seen = ""
        while True:
            ended = supervisor is not None and supervisor.poll() is not None
            state = load(self.home)
            if state is not None and (supervisor is None or state.pid == supervisor.pid):
                if (text := state.model_dump_json()) != seen:
                    seen = text
                    on_change(state)
                if state.phase == "ready" and not ended:
                    return state
            if ended or (supervisor is None and not (state and state.is_alive)):
                raise self._failure(state, supervisor)
            time.sleep(POLL_S)

    def _failure(self, state: PlatformState | None, supervisor: subprocess.Popen[bytes] | None) -> UserError:
        ours = state is not None and (supervisor is None or state.pid == supervisor.pid)
        if ours and state is not None and state.error:
            return UserError(state.error, hint=state.hint)
        log = self.home.log("supervisor")
        last = process.tail(log, lines=1)
        return UserError(f"The platform ended while it started: {last}", hint=f"The whole log is {log}.")
