"""What NVIDIA's management library knows of the GPUs; nothing where there is no library, driver or GPU.

A driver that goes away (a reset, an unplugged card) leaves the readings out and is asked again after a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import structlog

from model_training.contracts.monitoring import GpuUsage

log = structlog.get_logger(__name__)
T = TypeVar("T")

AGAIN_AFTER_S = 60.0
SLOWED_BY = {
    0x4: "power_cap",
    0x8: "hardware",
    0x20: "software_thermal",
    0x40: "hardware_thermal",
    0x80: "power_brake",
}
"""Bits of nvmlDeviceGetCurrentClocksEventReasons that mean trouble; idling and an application's own clocks do not."""


def installed() -> Any:
    """The library's module, or None."""
    try:
        import pynvml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return pynvml


class Gpus:
    """Measures the GPUs of this machine.

    Args:
        nvml: the module `pynvml`, or what behaves like it; None where it is not installed.
    """

    def __init__(self, nvml: Any = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._nvml = nvml
        self._clock = clock
        self._again_at = 0.0
        self._up = False
        self._events: Any = None
        self._xids: dict[int, list[int]] = {}
        self._lock = threading.Lock()

    def usage(self) -> list[GpuUsage]:
        """Every GPU now."""
        with self._lock:
            if self._nvml is None or not (self._up or self._start()):
                return []
            try:
                self._hear_xids()
                return [self._one(index) for index in range(self._nvml.nvmlDeviceGetCount())]
            except self._nvml.NVMLError as error:
                self._lose(error)
                return []

    def _start(self) -> bool:
        if self._clock() < self._again_at:
            return False
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            self._lose(error)
            return False
        self._up = True
        self._events = self._or_none(self._listen)
        return True

    def _lose(self, error: Exception) -> None:
        if self._up:
            log.warning("gpus_lost", error=str(error))
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        self._up = False
        self._again_at = self._clock() + AGAIN_AFTER_S

    def _listen(self) -> Any:
        nvml = self._nvml
        events = nvml.nvmlEventSetCreate()
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
        return events

    def _hear_xids(self) -> None:
        while self._events is not None:
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._events, 0)
            except self._nvml.NVMLError_Timeout:
                return
            index = self._nvml.nvmlDeviceGetIndex(event.device)
            self._xids.setdefault(index, []).append(int(event.eventData))
            log.error("gpu_xid", gpu=index, xid=int(event.eventData))

    def _one(self, index: int) -> GpuUsage:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        name = nvml.nvmlDeviceGetName(handle)
        reasons = self._or_none(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)) or 0
        xids = self._xids.get(index, [])
        return GpuUsage(
            index=index,
            name=name.decode() if isinstance(name, bytes) else name,
            utilization_percent=self._or_none(lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu))
            or 0.0,
            memory_used=int(memory.used),
            memory_total=int(memory.total),
            temperature_c=self._or_none(
                lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
            ),
            power_w=self._or_none(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
            energy_j=self._or_none(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000),
            clocks_hz=self._clocks(handle),
            slowed_by=[name for bit, name in SLOWED_BY.items() if reasons & bit],
            ecc_errors=self._or_none(
                lambda: int(
                    nvml.nvmlDeviceGetTotalEccErrors(
                        handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_AGGREGATE_ECC
                    )
                )
            ),
            xid=xids[-1] if xids else None,
            xids=len(xids),
            processes=self._processes(handle),
        )

    def _clocks(self, handle: Any) -> dict[str, float]:
        nvml = self._nvml
        found: dict[str, float] = {}
        for name, clock in (("sm", nvml.NVML_CLOCK_SM), ("memory", nvml.NVML_CLOCK_MEM)):
            megahertz = self._or_none(lambda clock=clock: nvml.nvmlDeviceGetClockInfo(handle, clock))
            if megahertz is not None:
                found[name] = megahertz * 1e6
        return found

    def _processes(self, handle: Any) -> dict[int, int]:
        running = self._or_none(lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)) or []
        return {int(one.pid): int(one.usedGpuMemory or 0) for one in running}

    def _or_none(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except self._nvml.NVMLError as error:
            if getattr(error, "value", None) in (
                self._nvml.NVML_ERROR_GPU_IS_LOST,
                self._nvml.NVML_ERROR_UNINITIALIZED,
            ):
                raise
            return None  # many cards cannot tell
