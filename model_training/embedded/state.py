"""What runs now, as the supervisor writes it for other terminals to read."""

from __future__ import annotations

import time
from typing import Literal

import psutil
from pydantic import BaseModel, ValidationError

from model_training.home import Home, write_private

Phase = Literal["starting", "ready", "stopping", "failed", "stopped"]
"""Where the platform as a whole stands."""

Condition = Literal["waiting", "starting", "ready", "done", "unready", "restarting", "stopped"]
"""Where one process stands. `done` is for the one-off steps; `unready` lives but cannot serve now."""


class ServiceState(BaseModel):
    """One process. Times are Unix seconds."""

    name: str
    condition: Condition = "waiting"
    pid: int | None = None
    port: int | None = None
    started_at: float | None = None
    restarts: int = 0
    message: str = ""


class PlatformState(BaseModel):
    """The whole platform. `created` is the supervisor's start time; with it a recycled pid is told apart."""

    pid: int
    created: float
    home: str
    gateway_url: str
    started_at: float
    ready_at: float | None = None
    phase: Phase = "starting"
    error: str | None = None
    hint: str | None = None
    notices: list[str] = []
    """What the person must have seen, such as a licence."""
    services: list[ServiceState] = []

    @property
    def is_alive(self) -> bool:
        """Does the supervisor that wrote this still run?"""
        return _is_same_process(self.pid, self.created)

    def save(self, home: Home) -> None:
        """Write it where other terminals find it, whole or not at all."""
        write_private(home.state_file, self.model_dump_json(indent=1))


def load(home: Home) -> PlatformState | None:
    """The last state written, whether its supervisor lives or not; None where there never was one."""
    try:
        return PlatformState.model_validate_json(home.state_file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def current(home: Home) -> PlatformState | None:
    """The state of the platform that runs now, or None."""
    state = load(home)
    return state if state is not None and state.is_alive else None


def process_created(pid: int) -> float:
    """When a process began, in Unix seconds."""
    return psutil.Process(pid).create_time()


def _is_same_process(pid: int, created: float) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - created) < 1.0
    except psutil.NoSuchProcess:
        return False


def age_s(since: float | None) -> float:
    """Seconds since a Unix time; 0 where there is none."""
    return max(0.0, time.time() - since) if since else 0.0
