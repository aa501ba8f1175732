"""What the machine and the queue are doing now."""

from __future__ import annotations

from datetime import datetime

from model_training.contracts.base import Reply
from model_training.contracts.jobs import JobKind, JobProgress


class HostUsage(Reply):
    """The machine. Percentages run from 0 to 100 over all cores; sizes are in bytes."""

    cpu_percent: float
    cpu_count: int
    memory_used: int
    memory_total: int
    disk_used: int
    disk_total: int
    load_1m: float


class ProcessUsage(Reply):
    """One service with its children. `cpu_percent` is 100 for one whole core; `memory` is resident, in bytes."""

    name: str
    pid: int
    cpu_percent: float
    memory: int
    processes: int


class GpuUsage(Reply):
    """One GPU. Memory in bytes, temperature in degrees Celsius, power in watts."""

    index: int
    name: str
    utilization_percent: float
    memory_used: int
    memory_total: int
    temperature_c: float | None = None
    power_w: float | None = None


class QueueUsage(Reply):
    """One kind of job. `oldest_queued_s` is how long the first in line has waited, in seconds."""

    kind: JobKind
    queued: int = 0
    running: int = 0
    oldest_queued_s: float = 0.0


class RunningJob(Reply):
    """A job under way."""

    id: str
    kind: JobKind
    started_at: datetime | None = None
    progress: JobProgress = JobProgress()


class Resources(Reply):
    """Everything at one moment."""

    taken_at: datetime
    host: HostUsage
    services: list[ProcessUsage] = []
    gpus: list[GpuUsage] = []
    queues: list[QueueUsage] = []
    jobs: list[RunningJob] = []
