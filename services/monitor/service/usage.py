"""Writes down what each running job, and each model that answers, uses of the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy.orm import Session

from model_training.contracts.monitoring import GpuUsage, JobUsage, ModelUsage
from services.monitor.domain.attribution import Attribution, Family
from services.monitor.domain.samples import Reading
from services.monitor.domain.serving import Served, Serving
from services.monitor.repository import jobs
from services.monitor.repository import usage as store


class Processes(Protocol):
    """What knows the processes of this machine."""

    def family(self, owner: str) -> Family:
        """The processes that a worker of this machine has started; none if it is elsewhere."""
        ...

    def service(self, name: str) -> Family:
        """The processes of a service of this machine; none if it is elsewhere."""
        ...


SERVICE = "inference"


def of_models(session: Session, names: Sequence[str] | None = None) -> list[ModelUsage]:
    """What models have used, those that worked last first; these alone where they are named."""
    return store.of_models(session, names)


class UsageKeeper:
    """A duty of the watch. It sees the workers of its own machine; on several machines each has a monitor of its own."""

    def __init__(
        self,
        processes: Processes,
        gpus: Callable[[], list[GpuUsage]],
        served: Callable[[], Mapping[str, Served]] = dict,
    ) -> None:
        """Args:
        served: what the inference service has counted, by model; nothing while it does not answer.
        """
        self._processes = processes
        self._gpus = gpus
        self._served = served
        self._attribution = Attribution()
        self._serving = Serving()

    def __call__(self, session: Session, at: datetime, _: Sequence[Reading]) -> None:
        """Look at every running job and model, and write down what each has used."""
        families = {job: self._processes.family(owner) for job, owner in jobs.owners(session).items()}
        here = {job: family for job, family in families.items() if family}
        known = {job: found for job in here if (found := store.of(session, job)) is not None}
        # The service is looked at like a job of which nothing is known: what comes back is what it used since the last look.
        here[SERVICE], known[SERVICE] = self._processes.service(SERVICE), JobUsage()
        used = self._attribution.look(at.timestamp(), here, self._gpus(), known)
        self._share(session, at, used.pop(SERVICE))
        tokens = store.tokens(session, list(used))
        for job, usage in used.items():
            store.put(session, job, usage.model_copy(update={"tokens": tokens.get(job, usage.tokens)}), at)

    def _share(self, session: Session, at: datetime, used: JobUsage) -> None:
        counted = self._served()
        known = {one.model: one for one in store.of_models(session, list(counted))} if counted else {}
        for usage in self._serving.look(counted, used, known).values():
            store.put_model(session, usage, at)
