"""What NVIDIA's management library knows of the GPUs; nothing where there is no library, driver or GPU."""

from __future__ import annotations

from typing import Any

from model_training.contracts.monitoring import GpuUsage


class Gpus:
    """Measures the GPUs of this machine."""

    def __init__(self) -> None:
        self._nvml: Any = None
        try:
            import pynvml  # pyright: ignore[reportMissingImports]

            pynvml.nvmlInit()
            self._nvml = pynvml
        except (
            Exception
        ):  # not installed, no driver, or a driver that does not answer: all mean "no GPU to see"
            self._nvml = None

    def usage(self) -> list[GpuUsage]:
        """Every GPU now."""
        if self._nvml is None:
            return []
        return [self._one(index) for index in range(self._nvml.nvmlDeviceGetCount())]

    def _one(self, index: int) -> GpuUsage:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        name = nvml.nvmlDeviceGetName(handle)
        return GpuUsage(
            index=index,
            name=name.decode() if isinstance(name, bytes) else name,
            utilization_percent=float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            memory_used=int(memory.used),
            memory_total=int(memory.total),
            temperature_c=self._or_none(lambda: float(nvml.nvmlDeviceGetTemperature(handle, 0))),
            power_w=self._or_none(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
        )

    def _or_none(self, read: Any) -> float | None:
        try:
            return read()
        except self._nvml.NVMLError:  # many cards cannot tell
            return None
