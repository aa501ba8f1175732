"""What the supervisor runs: long-lived processes and one-off steps, and what each needs before it may start."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Check = Callable[[], str | None]
"""Says why a process cannot serve yet, or None when it can."""


@dataclass(frozen=True)
class Unit:
    """One process. Without a `check` it is a one-off step, done when it exits with 0."""

    name: str
    command: tuple[str, ...]
    check: Check | None = None
    needs: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    port: int | None = None
    user: int | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    stop_rank: int = 0
    """Lower ranks stop first: services before the stores that they write to."""
    start_timeout_s: float = 180.0


@dataclass(frozen=True)
class ServiceSpec:
    """A service of the platform, started as `python -m <module>` on `port base + offset`."""

    name: str
    module: str
    offset: int
    needs: tuple[str, ...] = ()


SERVICES = (
    # The slow starters come first: on two cores the order is the time.
    ServiceSpec("inference", "services.inference.main", 1, ("model",)),
    ServiceSpec("rag", "services.rag.main", 2),
    ServiceSpec("gateway", "services.gateway.main", 0),
    ServiceSpec("keeper", "services.gateway.keeper", 7),
    ServiceSpec("evaluator", "services.evaluator.main", 5),
    ServiceSpec("comparator", "services.comparator.main", 3),
    ServiceSpec("trainer", "services.trainer.main", 6, ("model",)),
    ServiceSpec("monitor", "services.monitor.main", 4),
    ServiceSpec("dashboard", "services.dashboard.main", 8),
)
"""All services, at the ports that the architecture page gives them."""
