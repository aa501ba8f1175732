"""What a job may take: wall time and memory of its whole session, watched by the worker."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from libs.common.jobs.process import ChildProcess
from model_training.contracts.jobs import JobError

CHECK_EVERY_S = 1.0
MB = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Limits of one attempt; None means none.

    Args:
        timeout_s: wall time.
        memory_bytes: resident memory of the child and of all that it started.
        stopped_s: how long somebody may hold the child with SIGSTOP.
    """

    timeout_s: float | None = None
    memory_bytes: int | None = None
    stopped_s: float = 30.0


@dataclass(frozen=True)
class Breach:
    """The failure of a child that broke a limit, and whether another attempt may do better."""

    error: JobError
    retry: bool = False


class LimitWatch:
    """Compares a child with its limits, at most once a second."""

    def __init__(self, limits: Limits, child: ChildProcess) -> None:
        self._limits = limits
        self._child = child
        self._started = time.monotonic()
        self._stopped_since: float | None = None
        self._next = 0.0

    def breach(self) -> Breach | None:
        """The limit that the child has broken; None if it keeps them all."""
        now = time.monotonic()
        if now < self._next:
            return None
        self._next = now + min(CHECK_EVERY_S, self._limits.stopped_s / 4)
        if self._limits.timeout_s is not None and now - self._started > self._limits.timeout_s:
            return Breach(_timeout(self._limits.timeout_s))
        if self._limits.memory_bytes is not None:
            used = self._child.rss_bytes()
            if used > self._limits.memory_bytes:
                return Breach(_too_large(used, self._limits.memory_bytes))
        if self._stopped_for(now) > self._limits.stopped_s:
            return Breach(_stopped(self._limits.stopped_s), retry=True)
        return None

    def _stopped_for(self, now: float) -> float:
        if not self._child.is_stopped():
            self._stopped_since = None
            return 0.0
        self._stopped_since = self._stopped_since or now
        return now - self._stopped_since


def oom_kills(
    root: Path = Path("/sys/fs/cgroup"), self_cgroup: Path = Path("/proc/self/cgroup")
) -> int | None:
    """How many processes of this control group the kernel has ended for memory; None where it does not say.

    The child lives in its worker's group, so a count that grew while it ran tells why it died.
    """
    try:
        lines = self_cgroup.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        name = "memory.events" if controllers == "" else "memory/memory.oom_control"
        folder, _, file = f"{root}/{name}".rpartition("/")
        for candidate in (Path(folder + path) / file, Path(folder) / file):  # the second: inside a container
            count = _count(candidate)
            if count is not None:
                return count
    return None


def _count(file: Path) -> int | None:
    try:
        words = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    return next((int(word[1]) for word in words if word[0] == "oom_kill"), None)


def killed_for_memory() -> JobError:
    """The failure of a child that the kernel ended because memory ran out."""
    return JobError(
        code="out_of_memory",
        message="The machine ran out of memory, and the kernel ended the job's process (signal 9).",
        hint="Lower batch_size or max_length, or use a machine with more memory.",
    )


def _timeout(limit_s: float) -> JobError:
    return JobError(
        code="timeout",
        blame="user",
        message=f"The job ran for longer than the {limit_s:g} s that a job may take.",
        hint="Ask for less work (fewer epochs, fewer rows), or raise MT_JOB_TIMEOUT_S.",
    )


def _too_large(used: int, limit: int) -> JobError:
    return JobError(
        code="out_of_memory",
        blame="user",
        message=f"The job used {used / MB:.0f} MB of memory; a job may use {limit / MB:.0f} MB.",
        hint="Lower batch_size or max_length, or raise MT_JOB_MEMORY_LIMIT_BYTES.",
    )


def _stopped(limit_s: float) -> JobError:
    return JobError(
        code="child_lost",
        message=f"The process that did the work was held by a stop signal for longer than {limit_s:g} s.",
        hint="Something on the worker's machine sends SIGSTOP.",
    )
