"""A stand-in for the module `pynvml` with two cards, whose driver can be taken away and whose answers can be refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """As in pynvml: an error with a number."""

    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


class NVMLError_Timeout(NVMLError):
    """Nothing has happened."""


@dataclass
class FakeNvml:
    """What the module offers, as far as it is used. `refused` names functions that this card does not support."""

    NVMLError: Any = NVMLError
    NVMLError_Timeout: Any = NVMLError_Timeout
    NVML_ERROR_UNINITIALIZED: int = 1
    NVML_ERROR_GPU_IS_LOST: int = 15
    NVML_TEMPERATURE_GPU: int = 0
    NVML_CLOCK_SM: int = 1
    NVML_CLOCK_MEM: int = 2
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED: int = 1
    NVML_AGGREGATE_ECC: int = 1
    nvmlEventTypeXidCriticalError: int = 8
    driver: bool = True
    initialised: int = 0
    refused: set[str] = field(default_factory=set[str])
    reasons: int = 0
    energy_mj: int = 5_000_000
    xids: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    processes: dict[int, int] = field(default_factory=lambda: {77: 3_000, 88: 1_000})

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            if not self.driver:
                raise NVMLError(self.NVML_ERROR_GPU_IS_LOST if self.initialised else 9)
            if name in self.refused:
                raise NVMLError(3)
            return getattr(self, f"_{name}")(*arguments)

        return call

    def _nvmlInit(self) -> None:
        self.initialised += 1

    def _nvmlShutdown(self) -> None: ...
    def _nvmlEventSetCreate(self) -> object:
        return object()

    def _nvmlDeviceRegisterEvents(self, handle: int, kinds: int, events: object) -> None: ...
    def _nvmlEventSetWait_v2(self, events: object, timeout_ms: int) -> Any:
        if not self.xids:
            raise NVMLError_Timeout(10)
        device, xid = self.xids.pop(0)
        return SimpleNamespace(device=device, eventData=xid)

    def _nvmlDeviceGetCount(self) -> int:
        return 2

    def _nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def _nvmlDeviceGetIndex(self, handle: int) -> int:
        return handle

    def _nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"NVIDIA Fake"

    def _nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=4_000, total=80_000)

    def _nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=50, memory=10)

    def _nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 61

    def _nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return 300_000

    def _nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return self.energy_mj

    def _nvmlDeviceGetClockInfo(self, handle: int, clock: int) -> int:
        return {1: 1980, 2: 2619}[clock]

    def _nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:
        return self.reasons

    def _nvmlDeviceGetTotalEccErrors(self, handle: int, kind: int, counter: int) -> int:
        return 0

    def _nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        found = self.processes if handle == 0 else {}
        return [SimpleNamespace(pid=pid, usedGpuMemory=memory) for pid, memory in found.items()]
