"""One attempt at a job: follows a child from its start to its last word, or to its end without one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from libs.common.jobs import transitions
from libs.common.jobs.limits import Breach, Limits, LimitWatch, killed_for_memory, oom_kills
from libs.common.jobs.process import ChildProcess
from model_training.contracts.jobs import JobError

if TYPE_CHECKING:
    from libs.common.jobs.runner import Held

POLL_S = 0.25
CANCEL_GRACE_S = 10.0
PAUSE_GRACE_S = 300.0  # writing a checkpoint may take a while

LAST = frozenset({"result", "stopped", "failure"})


class Overseer(Protocol):
    """Who writes what a child says, and knows whether it should stop: a `JobRunner`, or a `Help`."""

    leaving: Callable[[], bool]

    @property
    def renew_every_s(self) -> float: ...
    def relay(self, held: Held, messages: list[dict[str, Any]]) -> transitions.Stop | None: ...
    def end(self, held: Held, message: dict[str, Any]) -> str: ...


class Attempt:
    """Follows one child to its end."""

    def __init__(self, runner: Overseer, held: Held, child: ChildProcess, limits: Limits) -> None:
        self._runner = runner
        self._held = held
        self._child = child
        self._watch = LimitWatch(limits, child)
        self._oom_kills = oom_kills()
        self._breach: Breach | None = None
        self._stop: transitions.Stop | None = None
        self._stop_deadline = float("inf")
        self._leaving = False
        self._renewed = 0.0

    def follow(self) -> str:
        """Relay until the child says its last word or ends without one; returns the outcome's name.

        Raises:
            LeaseLost: the job is no longer this worker's.
            DBAPIError: PostgreSQL was away until the lease was over.
            Exception: what the handler raised.
        """
        while True:
            messages = self._child.receive(min(POLL_S, self._runner.renew_every_s))
            last = next((m for m in messages if m.get("type") in LAST), None)
            self._relay([m for m in messages if m.get("type") not in LAST])
            if last is not None:
                return self._runner.end(self._held, self._as_released(last))
            if self._child.ended():
                return self._runner.end(self._held, self._without_last_word())
            self._enforce()

    def _relay(self, spoken: list[dict[str, Any]]) -> None:
        if not spoken and time.monotonic() - self._renewed < self._runner.renew_every_s:
            return
        self._ask_to_stop(self._runner.relay(self._held, spoken))
        self._child.send({"type": "lease", "until": self._held.until, "news": self._held.news})
        self._renewed = time.monotonic()

    def _enforce(self) -> None:
        """End a child that takes too much, or too long to stop. Its end, and what it said before, are seen later."""
        self._breach = self._breach or self._watch.breach()
        if self._breach is not None or time.monotonic() > self._stop_deadline:
            self._child.kill()

    def _ask_to_stop(self, wanted: transitions.Stop | None) -> None:
        if wanted is None and self._runner.leaving():
            wanted, self._leaving = "pause", True
        if wanted is None or wanted == self._stop:
            return
        self._stop = wanted
        grace_s = CANCEL_GRACE_S if wanted == "cancel" else PAUSE_GRACE_S
        self._stop_deadline = time.monotonic() + grace_s
        self._child.send({"type": "stop", "reason": wanted})

    def _as_released(self, last: dict[str, Any]) -> dict[str, Any]:
        return {"type": "released"} if self._leaving and last["type"] == "stopped" else last

    def _without_last_word(self) -> dict[str, Any]:
        if self._stop == "cancel":
            return {"type": "stopped"}
        if self._breach is not None:
            error, retry = self._breach.error, self._breach.retry
        elif self._leaving:
            return {"type": "released"}
        elif self._child.returncode == -9 and self._ended_for_memory():
            error, retry = killed_for_memory(), False
        else:
            error, retry = _child_lost(self._child.returncode), True
        return {"type": "failure", "error": error.model_dump(mode="json"), "retry": retry}

    def _ended_for_memory(self) -> bool:
        return self._oom_kills is not None and (oom_kills() or 0) > self._oom_kills


def _child_lost(code: int | None) -> JobError:
    reason = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return JobError(
        code="child_lost",
        message=f"The process that did the work ended without an answer ({reason}).",
        hint="Exit by signal 9 usually means that the machine ran out of memory; the job's log has the details.",
    )
