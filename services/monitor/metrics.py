"""What the monitor measures, for Prometheus: taken when it asks. What the monitor itself does is counted in `watching`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_training.contracts.monitoring import (
    GpuUsage,
    HostUsage,
    ModelUsage,
    ProcessUsage,
    Resources,
    RunningJob,
)
from services.monitor.adapters.nvidia import SLOWED_BY

FINDINGS = ("stalled", "plateau", "diverging", "overfitting")


class ResourceCollector(Collector):
    """Queues, running jobs, models, services, host and GPUs. A database that is away leaves them out."""

    def __init__(
        self, measure: Callable[[], Resources | None], models: Callable[[], Sequence[ModelUsage]] = tuple
    ) -> None:
        """Args:
        models: what the models in memory have used.
        """
        self._measure = measure
        self._models = models

    def describe(self) -> list[Metric]:
        """Nothing is measured at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Measure now."""
        now = self._measure()
        if now is not None:
            yield from families(now)
            yield from _models(self._models())


def families(now: Resources) -> Iterator[Metric]:
    """One look, as Prometheus has it."""
    yield from _queues(now)
    yield from _jobs(now.jobs)
    yield from _training(now.jobs)
    yield from _usage(now.jobs)
    yield from _services(now.services)
    yield from _host(now.host)
    yield from _gpus(now.gpus)
    yield from _gpu_trouble(now.gpus)


def _queues(now: Resources) -> Iterator[Metric]:
    counted = GaugeMetricFamily("mt_queue_jobs", "Jobs by kind and state.", labels=["kind", "state"])
    oldest = GaugeMetricFamily("mt_queue_oldest_seconds", "Wait of the first in line.", labels=["kind"])
    lost = GaugeMetricFamily(
        "mt_queue_lost_leases",
        "Running jobs whose lease has run out: their worker fell silent.",
        labels=["kind"],
    )
    for queue in now.queues:
        counted.add_metric([queue.kind.value, "queued"], queue.queued)
        counted.add_metric([queue.kind.value, "running"], queue.running)
        oldest.add_metric([queue.kind.value], queue.oldest_queued_s)
        lost.add_metric([queue.kind.value], queue.lost)
    models = GaugeMetricFamily("mt_models", "Tuned models by state.", labels=["state"])
    for state, count in now.models.items():
        models.add_metric([state], count)
    yield from (counted, oldest, lost, models)


def _jobs(jobs: list[RunningJob]) -> Iterator[Metric]:
    progress = GaugeMetricFamily(
        "mt_job_progress_ratio", "Progress of running jobs.", labels=["job_id", "kind"]
    )
    silent = GaugeMetricFamily(
        "mt_job_silent_seconds", "Time since a running job last said anything.", labels=["job_id", "kind"]
    )
    left = GaugeMetricFamily(
        "mt_job_remaining_seconds", "Estimated time until a job ends.", labels=["job_id", "bound"]
    )
    for job in jobs:
        progress.add_metric([job.id, job.kind.value], job.progress.fraction)
        silent.add_metric([job.id, job.kind.value], job.silent_s)
        if job.remaining is not None:
            for bound in ("low", "median", "high"):
                left.add_metric([job.id, bound], getattr(job.remaining, bound))
    yield from (progress, silent, left)


def _training(jobs: list[RunningJob]) -> Iterator[Metric]:
    loss = GaugeMetricFamily("mt_training_loss", "Newest training loss.", labels=["job_id"])
    valid = GaugeMetricFamily("mt_training_eval_loss", "Newest validation loss.", labels=["job_id"])
    rate = GaugeMetricFamily("mt_training_learning_rate", "Learning rate.", labels=["job_id"])
    norm = GaugeMetricFamily("mt_training_gradient_norm", "Norm of the gradient.", labels=["job_id"])
    speed = GaugeMetricFamily("mt_training_tokens_per_second", "Tokens trained on.", labels=["job_id"])
    noticed = GaugeMetricFamily(
        "mt_training_finding", "1 where something is noticed about a training.", labels=["job_id", "finding"]
    )
    named = {
        "loss": loss,
        "eval_loss": valid,
        "learning_rate": rate,
        "grad_norm": norm,
        "tokens_per_s": speed,
    }
    for job in jobs:
        for name, family in named.items():
            if name in job.values:
                family.add_metric([job.id], job.values[name])
        if job.values:
            found = {finding.finding for finding in job.findings}
            for finding in FINDINGS:
                noticed.add_metric([job.id, finding], finding in found)
    yield from (loss, valid, rate, norm, speed, noticed)


def _usage(jobs: list[RunningJob]) -> Iterator[Metric]:
    cpu = CounterMetricFamily("mt_job_cpu_seconds", "Processor time that a job used.", labels=["job_id"])
    memory = GaugeMetricFamily("mt_job_memory_peak_bytes", "Most memory a job held.", labels=["job_id"])
    gpu = CounterMetricFamily("mt_job_gpu_seconds", "GPU time that a job used.", labels=["job_id"])
    energy = CounterMetricFamily(
        "mt_job_energy_joules", "Energy that a job's GPUs used for it.", labels=["job_id"]
    )
    for job in jobs:
        if job.usage is not None:
            cpu.add_metric([job.id], job.usage.cpu_s)
            memory.add_metric([job.id], job.usage.memory_peak)
            gpu.add_metric([job.id], job.usage.gpu_s)
            energy.add_metric([job.id], job.usage.energy_j)
    yield from (cpu, memory, gpu, energy)


def _models(usages: Sequence[ModelUsage]) -> Iterator[Metric]:
    cpu = CounterMetricFamily(
        "mt_model_cpu_seconds", "Processor time for a model's answers.", labels=["model"]
    )
    gpu = CounterMetricFamily("mt_model_gpu_seconds", "GPU time for a model's answers.", labels=["model"])
    energy = CounterMetricFamily(
        "mt_model_energy_joules", "Energy that GPUs used for a model's answers.", labels=["model"]
    )
    for usage in usages:
        cpu.add_metric([usage.model], usage.cpu_s)
        gpu.add_metric([usage.model], usage.gpu_s)
        energy.add_metric([usage.model], usage.energy_j)
    yield from (cpu, gpu, energy)


def _services(services: list[ProcessUsage]) -> Iterator[Metric]:
    cpu = GaugeMetricFamily(
        "mt_service_cpu_cores", "Processor cores in use, with children.", labels=["service"]
    )
    memory = GaugeMetricFamily("mt_service_memory_bytes", "Resident, with children.", labels=["service"])
    for service in services:
        cpu.add_metric([service.name], service.cpu_percent / 100)
        memory.add_metric([service.name], service.memory)
    yield from (cpu, memory)


def _host(host: HostUsage) -> Iterator[Metric]:
    yield GaugeMetricFamily("mt_host_cpu_ratio", "Share of all cores in use.", value=host.cpu_percent / 100)
    yield GaugeMetricFamily("mt_host_cpu_cores", "Processor cores.", value=host.cpu_count)
    yield GaugeMetricFamily("mt_host_load", "Processes that run or wait, over a minute.", value=host.load_1m)
    yield GaugeMetricFamily("mt_host_memory_used_bytes", "Memory in use.", value=host.memory_used)
    yield GaugeMetricFamily("mt_host_memory_size_bytes", "Memory.", value=host.memory_total)
    yield GaugeMetricFamily("mt_host_disk_used_bytes", "Of the data directory's disk.", value=host.disk_used)
    yield GaugeMetricFamily("mt_host_disk_size_bytes", "The data directory's disk.", value=host.disk_total)
    network = CounterMetricFamily(
        "mt_host_network_bytes", "Bytes over all network interfaces.", labels=["direction"]
    )
    network.add_metric(["received"], host.network_received)
    network.add_metric(["sent"], host.network_sent)
    yield network


def _gpus(gpus: list[GpuUsage]) -> Iterator[Metric]:
    use = GaugeMetricFamily(
        "mt_gpu_utilization_ratio", "Share of time with a kernel running.", labels=["gpu"]
    )
    memory = GaugeMetricFamily("mt_gpu_memory_used_bytes", "GPU memory in use.", labels=["gpu"])
    size = GaugeMetricFamily("mt_gpu_memory_size_bytes", "GPU memory.", labels=["gpu"])
    heat = GaugeMetricFamily("mt_gpu_temperature_celsius", "GPU temperature.", labels=["gpu"])
    power = GaugeMetricFamily("mt_gpu_power_watts", "Power drawn.", labels=["gpu"])
    energy = CounterMetricFamily("mt_gpu_energy_joules", "Energy since the driver started.", labels=["gpu"])
    clocks = GaugeMetricFamily("mt_gpu_clock_hertz", "Clock rates.", labels=["gpu", "clock"])
    for gpu in gpus:
        index = str(gpu.index)
        use.add_metric([index], gpu.utilization_percent / 100)
        memory.add_metric([index], gpu.memory_used)
        size.add_metric([index], gpu.memory_total)
        for family, value in ((heat, gpu.temperature_c), (power, gpu.power_w), (energy, gpu.energy_j)):
            if value is not None:
                family.add_metric([index], value)
        for clock, hertz in gpu.clocks_hz.items():
            clocks.add_metric([index, clock], hertz)
    yield from (use, memory, size, heat, power, energy, clocks)


def _gpu_trouble(gpus: list[GpuUsage]) -> Iterator[Metric]:
    slowed = GaugeMetricFamily(
        "mt_gpu_slowed", "1 where a GPU runs slower than it could, by why.", labels=["gpu", "reason"]
    )
    ecc = CounterMetricFamily("mt_gpu_ecc_errors", "Uncorrected memory errors.", labels=["gpu"])
    xids = CounterMetricFamily("mt_gpu_xid_errors", "Critical errors (XID) seen.", labels=["gpu"])
    for gpu in gpus:
        index = str(gpu.index)
        for reason in SLOWED_BY.values():
            slowed.add_metric([index, reason], reason in gpu.slowed_by)
        if gpu.ecc_errors is not None:
            ecc.add_metric([index], gpu.ecc_errors)
        xids.add_metric([index], gpu.xids)
    yield from (slowed, ecc, xids)
