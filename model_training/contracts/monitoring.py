"""What the machine and the queue are doing now."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

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
    network_received: int = 0
    network_sent: int = 0


class ProcessUsage(Reply):
    """One service with its children. `cpu_percent` is 100 for one whole core; `memory` is resident, in bytes.

    `cpu_s` is the processor time that its present processes have used, in seconds.
    """

    name: str
    pid: int
    cpu_percent: float
    memory: int
    processes: int
    cpu_s: float = 0.0


class GpuUsage(Reply):
    """One GPU. Memory in bytes, temperature in degrees Celsius, power in watts; None where the card cannot tell.

    `energy_j` counts from the driver's start, in joules; `clocks_hz` by clock; `slowed_by` says why it runs slower
    than it could; `ecc_errors` are uncorrected ones; `xid` is the newest critical error's number, `xids` how many were seen.
    """

    index: int
    name: str
    utilization_percent: float
    memory_used: int
    memory_total: int
    temperature_c: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    clocks_hz: dict[str, float] = {}
    slowed_by: list[str] = []
    ecc_errors: int | None = None
    xid: int | None = None
    xids: int = 0
    processes: dict[int, int] = {}
    """Memory in bytes by process id."""


class QueueUsage(Reply):
    """One kind of job. `oldest_queued_s` is how long the first in line has waited, in seconds.

    `running` counts those that a worker holds; `lost` of them have a lease that has run out.
    """

    kind: JobKind
    queued: int = 0
    running: int = 0
    lost: int = 0
    oldest_queued_s: float = 0.0


class Remaining(Reply):
    """Seconds until a job ends: the true end lies between `low` and `high` four times in five."""

    low: float
    median: float
    high: float


class Finding(Reply):
    """Something noticed about a training, in words."""

    finding: Literal["stalled", "plateau", "diverging", "overfitting"]
    message: str


class JobUsage(Reply):
    """What a job has used over all its attempts: seconds of processor and GPU, bytes of memory at its peak, joules."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    memory_peak: int = 0
    gpu_s: float = 0.0
    gpu_memory_peak: int = 0
    energy_j: float = 0.0
    tokens: float = 0.0

    @property
    def wh_per_1000_tokens(self) -> float | None:
        """Watt hours for 1,000 tokens; None before the first."""
        return self.energy_j / 3600 / self.tokens * 1000 if self.tokens else None


class ModelUsage(Reply):
    """What a model, base or tuned, has used while it answered: its share of the inference service.

    Seconds of computing, of processors and of GPUs; joules; tokens read and written. `training` is what its training used.
    """

    model: str
    busy_s: float = 0.0
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    energy_j: float = 0.0
    tokens: float = 0.0
    training: JobUsage | None = None

    @property
    def wh_per_1000_tokens(self) -> float | None:
        """Watt hours for 1,000 tokens of answering; None where no energy was measured."""
        return self.energy_j / 3600 / self.tokens * 1000 if self.tokens and self.energy_j else None


class RunningJob(Reply):
    """A job under way. `silent_s`: seconds since it last said anything; `values`: the newest of each metric."""

    id: str
    kind: JobKind
    started_at: datetime | None = None
    progress: JobProgress = JobProgress()
    silent_s: float = 0.0
    remaining: Remaining | None = None
    values: dict[str, float] = {}
    findings: list[Finding] = []
    usage: JobUsage | None = None


class JobReport(RunningJob):
    """How a job is going, in words as well. `queue_wait_s` is how long it waited for a worker, in seconds."""

    queue_wait_s: float | None = None
    sentence: str = ""


class HistoryPoint(Reply):
    """A metric over a stretch of time that begins at `at`."""

    at: datetime
    mean: float
    low: float
    high: float


class HistorySeries(Reply):
    """One series of a metric."""

    labels: dict[str, str] = {}
    points: list[HistoryPoint] = []


class History(Reply):
    """What a metric was, in steps of `resolution_s` seconds."""

    metric: str
    resolution_s: int
    series: list[HistorySeries] = []


class CanaryRound(Reply):
    """What a model answered to the canary questions, and how far that is from what was accepted, in nats per token."""

    id: str
    object: Literal["canary.round"] = "canary.round"
    model: str
    asked_at: datetime
    distance_nats: float | None = None
    changed: bool = False
    accepted: bool = False
    answers: list[str] = []


class DriftSignal(Reply):
    """One signal of a window of live answers against its reference. `effect` is in standard deviations."""

    name: str
    side: Literal["input", "output"]
    effect: float
    p: float
    threshold: float
    drifted: bool


class LiveDrift(Reply):
    """Whether what a model is asked, and answers, is as it was accepted. Signals are there once a window was full."""

    model: str
    object: Literal["live_drift"] = "live_drift"
    samples: int
    accepted_at: datetime | None = None
    looked_at: datetime | None = None
    signals: list[DriftSignal] = []
    words: str


class Resources(Reply):
    """Everything at one moment."""

    taken_at: datetime
    host: HostUsage
    services: list[ProcessUsage] = []
    gpus: list[GpuUsage] = []
    queues: list[QueueUsage] = []
    jobs: list[RunningJob] = []
    models: dict[str, int] = {}
    """Tuned models by state."""
