"""The same measurements for Prometheus, taken when it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from model_training.contracts.monitoring import Resources


class ResourceCollector(Collector):
    """Gauges of queues, running jobs, services, host and GPUs. A database that is away leaves them out."""

    def __init__(self, measure: Callable[[], Resources | None]) -> None:
        self._measure = measure

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing is measured at registration."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Measure now."""
        now = self._measure()
        if now is None:
            return
        yield from self._queues(now)
        yield from self._processes(now)
        yield from self._machine(now)

    def _queues(self, now: Resources) -> Iterator[GaugeMetricFamily]:
        queued = GaugeMetricFamily("mt_queue_jobs", "Jobs by kind and state.", labels=["kind", "state"])
        oldest = GaugeMetricFamily("mt_queue_oldest_seconds", "Wait of the first in line.", labels=["kind"])
        for queue in now.queues:
            queued.add_metric([queue.kind.value, "queued"], queue.queued)
            queued.add_metric([queue.kind.value, "running"], queue.running)
            oldest.add_metric([queue.kind.value], queue.oldest_queued_s)
        progress = GaugeMetricFamily(
            "mt_job_progress_ratio", "Progress of running jobs.", labels=["job", "kind"]
        )
        for job in now.jobs:
            progress.add_metric([job.id, job.kind.value], job.progress.fraction)
        yield from (queued, oldest, progress)

    def _processes(self, now: Resources) -> Iterator[GaugeMetricFamily]:
        cpu = GaugeMetricFamily("mt_service_cpu_percent", "100 is one whole core.", labels=["service"])
        memory = GaugeMetricFamily("mt_service_memory_bytes", "Resident, with children.", labels=["service"])
        for service in now.services:
            cpu.add_metric([service.name], service.cpu_percent)
            memory.add_metric([service.name], service.memory)
        yield from (cpu, memory)

    def _machine(self, now: Resources) -> Iterator[GaugeMetricFamily]:
        host = now.host
        yield GaugeMetricFamily("mt_host_cpu_percent", "Over all cores.", value=host.cpu_percent)
        yield GaugeMetricFamily("mt_host_memory_used_bytes", "Memory in use.", value=host.memory_used)
        yield GaugeMetricFamily("mt_host_memory_total_bytes", "Memory.", value=host.memory_total)
        yield GaugeMetricFamily(
            "mt_host_disk_used_bytes", "Of the data directory's disk.", value=host.disk_used
        )
        use = GaugeMetricFamily("mt_gpu_utilization_percent", "GPU in use.", labels=["gpu"])
        memory = GaugeMetricFamily("mt_gpu_memory_used_bytes", "GPU memory in use.", labels=["gpu"])
        heat = GaugeMetricFamily("mt_gpu_temperature_celsius", "GPU temperature.", labels=["gpu"])
        for gpu in now.gpus:
            use.add_metric([str(gpu.index)], gpu.utilization_percent)
            memory.add_metric([str(gpu.index)], gpu.memory_used)
            if gpu.temperature_c is not None:
                heat.add_metric([str(gpu.index)], gpu.temperature_c)
        yield from (use, memory, heat)
