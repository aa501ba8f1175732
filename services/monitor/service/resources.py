"""Puts together what was measured at one moment."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy.orm import Session

from model_training.contracts.monitoring import GpuUsage, HostUsage, ProcessUsage, Resources
from services.monitor.repository import jobs
from services.monitor.service import training


class Machine(Protocol):
    """What measures the machine and the platform's processes."""

    def usage(self) -> HostUsage:
        """The machine now."""
        ...

    def services(self) -> list[ProcessUsage]:
        """The platform's processes now."""
        ...


class Accelerators(Protocol):
    """What measures the GPUs."""

    def usage(self) -> list[GpuUsage]:
        """Every GPU now."""
        ...


def resources(session: Session, machine: Machine, accelerators: Accelerators) -> Resources:
    """Host, services, GPUs, queues and running jobs, now."""
    return Resources(
        taken_at=datetime.now(UTC),
        host=machine.usage(),
        services=machine.services(),
        gpus=accelerators.usage(),
        queues=jobs.queues(session),
        jobs=[training.describe(session, job) for job in jobs.running_jobs(session)],
        models=jobs.models(session),
    )
