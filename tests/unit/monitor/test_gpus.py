"""GPUs through a stand-in of NVIDIA's library, and whose work they do."""

from __future__ import annotations

import pytest

from model_training.contracts.monitoring import GpuUsage, JobUsage
from services.monitor.adapters.nvidia import AGAIN_AFTER_S, Gpus, installed
from services.monitor.domain.attribution import Attribution, ProcessLook
from tests.unit.monitor.fake_nvml import FakeNvml


def test_everything_is_read_in_base_units() -> None:
    nvml = FakeNvml(reasons=0x4 | 0x40 | 0x1)
    first, second = Gpus(nvml).usage()
    assert first == GpuUsage(
        index=0, name="NVIDIA Fake", utilization_percent=50, memory_used=4000, memory_total=80_000,
        temperature_c=61, power_w=300, energy_j=5000, clocks_hz={"sm": 1.98e9, "memory": 2.619e9},
        slowed_by=["power_cap", "hardware_thermal"], ecc_errors=0, processes={77: 3000, 88: 1000},
    )  # fmt: skip
    assert second.processes == {}


def test_what_a_card_cannot_tell_is_left_out() -> None:
    nvml = FakeNvml(refused={"nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEccErrors", "nvmlEventSetCreate"})
    [one, _] = Gpus(nvml).usage()
    assert (one.power_w, one.ecc_errors, one.temperature_c) == (None, None, 61)


def test_critical_errors_are_heard_once() -> None:
    nvml = FakeNvml()
    gpus = Gpus(nvml)
    assert [gpu.xids for gpu in gpus.usage()] == [0, 0]
    nvml.xids = [(1, 79), (1, 48)]
    assert [(gpu.xids, gpu.xid) for gpu in gpus.usage()] == [(0, None), (2, 48)]
    assert [gpu.xids for gpu in gpus.usage()] == [0, 2]


def test_without_library_or_driver_there_are_no_gpus() -> None:
    assert Gpus(None).usage() == []
    assert Gpus(FakeNvml(driver=False)).usage() == []


def test_a_driver_that_is_reset_is_asked_again_after_a_while() -> None:
    now = 0.0
    nvml = FakeNvml()
    gpus = Gpus(nvml, clock=lambda: now)
    assert len(gpus.usage()) == 2
    nvml.driver = False
    assert gpus.usage() == []
    nvml.driver = True
    assert gpus.usage() == []  # not yet
    now = AGAIN_AFTER_S + 1
    assert len(gpus.usage()) == 2
    assert nvml.initialised == 2


def test_the_real_library_of_a_machine_without_gpu() -> None:
    pytest.importorskip("pynvml")
    assert isinstance(Gpus(installed()).usage(), list)


def process(pid: int, cpu_s: float, memory: int = 100, started_at: float = 0.0) -> ProcessLook:
    return ProcessLook(pid, started_at, cpu_s, memory)


def gpu(energy_j: float, processes: dict[int, int]) -> GpuUsage:
    return GpuUsage(
        index=0,
        name="G",
        utilization_percent=50,
        memory_used=1,
        memory_total=2,
        energy_j=energy_j,
        processes=processes,
    )


def test_a_job_gets_its_processes_and_its_share_of_the_gpu() -> None:
    attribution = Attribution()
    used = attribution.look(
        100, {"a": [process(1, 5)], "b": [process(2, 1)]}, [gpu(1000, {1: 30, 2: 10})], {}
    )
    assert used["a"].cpu_s == 5
    assert used["a"].energy_j == 0
    families = {"a": [process(1, 9, 50), process(3, 2, 70, started_at=105)], "b": [process(2, 1.5)]}
    used = attribution.look(110, families, [gpu(1400, {1: 30, 2: 10})], used)
    assert used["a"].cpu_s == 5 + 4 + 2
    assert used["a"].memory_peak == 120
    assert used["a"].energy_j == pytest.approx(300)
    assert used["b"].energy_j == pytest.approx(100)
    assert used["a"].gpu_s == pytest.approx(0.75 * 0.5 * 10)
    assert used["a"].wall_s == 10


def test_a_monitor_that_restarts_counts_nothing_twice() -> None:
    known = {"a": JobUsage(cpu_s=50, energy_j=7)}
    used = Attribution().look(100, {"a": [process(1, 60)]}, [gpu(1000, {1: 1})], known)
    assert (used["a"].cpu_s, used["a"].energy_j) == (50, 7)


def test_a_pid_that_is_given_again_is_another_process() -> None:
    attribution = Attribution()
    used = attribution.look(100, {"a": [process(1, 50)]}, [], {})
    used = attribution.look(110, {"a": [process(1, 2, started_at=105)]}, [], used)
    assert used["a"].cpu_s == 52


def test_an_energy_counter_that_begins_again_is_not_believed() -> None:
    attribution = Attribution()
    used = attribution.look(100, {"a": [process(1, 0)]}, [gpu(9000, {1: 1})], {})
    used = attribution.look(110, {"a": [process(1, 0)]}, [gpu(10, {1: 1})], used)
    assert used["a"].energy_j == 0


def test_energy_by_thousand_tokens() -> None:
    assert JobUsage(energy_j=7200, tokens=4000).wh_per_1000_tokens == pytest.approx(0.5)
    assert JobUsage(energy_j=7200).wh_per_1000_tokens is None
