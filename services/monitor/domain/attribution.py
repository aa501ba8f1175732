"""Which job used how much of the machine between two looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model_training.contracts.monitoring import GpuUsage, JobUsage


@dataclass(frozen=True)
class ProcessLook:
    """One process: who it is (a pid is given again, so its start belongs to it), processor seconds so far, bytes held."""

    pid: int
    started_at: float
    cpu_s: float
    memory: int


Family = Sequence[ProcessLook]
"""The processes of a job."""


class Attribution:
    """Adds up what each job uses, look by look. Times are in seconds since 1970."""

    def __init__(self) -> None:
        self._cpu_s: dict[tuple[int, float], float] = {}
        self._energy_j: dict[int, float] = {}
        self._looked_at: float | None = None

    def look(
        self,
        at: float,
        families: Mapping[str, Family],
        gpus: Sequence[GpuUsage],
        known: Mapping[str, JobUsage],
    ) -> dict[str, JobUsage]:
        """What each running job has used by now.

        Args:
            families: the processes of each running job, by job.
            known: what was written down of them so far, by job.
        """
        passed = 0.0 if self._looked_at is None else max(0.0, at - self._looked_at)
        energy = {gpu.index: self._energy_since(gpu, passed) for gpu in gpus}
        found = {
            job: self._add(known.get(job), family, gpus, energy, passed) for job, family in families.items()
        }
        alive = {(one.pid, one.started_at) for family in families.values() for one in family}
        self._cpu_s = {key: cpu for key, cpu in self._cpu_s.items() if key in alive}
        self._looked_at = at
        return found

    def _add(
        self,
        before: JobUsage | None,
        family: Family,
        gpus: Sequence[GpuUsage],
        energy: Mapping[int, float],
        passed: float,
    ) -> JobUsage:
        usage = before or JobUsage()
        gpu_s = joules = 0.0
        gpu_memory = 0
        for gpu in gpus:
            mine = sum(gpu.processes.get(one.pid, 0) for one in family)
            here = sum(one.pid in gpu.processes for one in family)
            if here:
                share = mine / total if (total := sum(gpu.processes.values())) else here / len(gpu.processes)
                gpu_s += share * gpu.utilization_percent / 100 * passed
                joules += share * energy[gpu.index]
                gpu_memory += mine
        return JobUsage(
            wall_s=usage.wall_s + passed,
            cpu_s=usage.cpu_s + sum(self._cpu_since(one, fresh=before is None) for one in family),
            memory_peak=max(usage.memory_peak, sum(one.memory for one in family)),
            gpu_s=usage.gpu_s + gpu_s,
            gpu_memory_peak=max(usage.gpu_memory_peak, gpu_memory),
            energy_j=usage.energy_j + joules,
            tokens=usage.tokens,
        )

    def _cpu_since(self, one: ProcessLook, *, fresh: bool) -> float:
        """Processor seconds since the last look. Of a process that is new here, all of them, unless its job is known from
        before this monitor started: then some may have been counted, and none are counted twice."""
        key = (one.pid, one.started_at)
        before = self._cpu_s.get(key)
        self._cpu_s[key] = one.cpu_s
        if before is not None:
            return max(0.0, one.cpu_s - before)
        born_since = self._looked_at is not None and one.started_at >= self._looked_at - 1
        return one.cpu_s if fresh or born_since else 0.0

    def _energy_since(self, gpu: GpuUsage, passed: float) -> float:
        """Joules since the last look, by the card's own counter where it has one; one that began again is not believed."""
        before = self._energy_j.get(gpu.index)
        if gpu.energy_j is None:
            return (gpu.power_w or 0.0) * passed
        self._energy_j[gpu.index] = gpu.energy_j
        if before is None or passed == 0.0:
            return 0.0
        return gpu.energy_j - before if gpu.energy_j >= before else (gpu.power_w or 0.0) * passed
