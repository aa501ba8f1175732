"""Writes down what each running job uses of the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy.orm import Session

from model_training.contracts.monitoring import GpuUsage
from services.monitor.domain.attribution import Attribution, Family
from services.monitor.domain.samples import Reading
from services.monitor.repository import jobs
from services.monitor.repository import usage as store


class Processes(Protocol):
    """What knows the processes of this machine."""

    def family(self, owner: str) -> Family:
        """The processes that a worker of this machine has started; none if it is elsewhere."""
        ...


class UsageKeeper:
    """A duty of the watch. It sees the workers of its own machine; on several machines each has a monitor of its own."""

    def __init__(self, processes: Processes, gpus: Callable[[], list[GpuUsage]]) -> None:
        self._processes = processes
        self._gpus = gpus
        self._attribution = Attribution()

    def __call__(self, session: Session, at: datetime, _: Sequence[Reading]) -> None:
        """Look at every running job, and write down what it has used."""
        families = {job: self._processes.family(owner) for job, owner in jobs.owners(session).items()}
        here = {job: family for job, family in families.items() if family}
        known = {job: found for job in here if (found := store.of(session, job)) is not None}
        used = self._attribution.look(at.timestamp(), here, self._gpus(), known)
        tokens = store.tokens(session, list(used))
        for job, usage in used.items():
            store.put(session, job, usage.model_copy(update={"tokens": tokens.get(job, usage.tokens)}), at)
