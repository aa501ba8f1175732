"""What this machine offers: an NVIDIA GPU, and packages. Looks at files and installed names only; imports no torch."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

BITSANDBYTES_CPUS = frozenset({"x86_64", "amd64", "aarch64", "arm64"})
"""Processors for which bitsandbytes has 4-bit kernels without a GPU."""


@dataclass(frozen=True)
class Machine:
    """Facts that settings depend on. `packages` names those of the optional ones that can be imported."""

    nvidia_gpu: bool
    processor: str
    packages: frozenset[str]

    def has(self, package: str) -> bool:
        """Whether the optional package can be imported here."""
        return package in self.packages

    @property
    def quantises_on_cpu(self) -> bool:
        """Whether bitsandbytes can hold 4-bit weights on this processor."""
        return self.processor in BITSANDBYTES_CPUS


OPTIONAL_PACKAGES = ("bitsandbytes", "flash_attn", "unsloth", "tensorboard", "wandb", "mlflow", "trackio")


@lru_cache(maxsize=1)
def this_machine() -> Machine:
    """The machine that this process runs on, looked at once."""
    return Machine(
        nvidia_gpu=_has_nvidia_gpu(),
        processor=platform.machine().lower(),
        packages=frozenset(name for name in OPTIONAL_PACKAGES if find_spec(name) is not None),
    )


def _has_nvidia_gpu() -> bool:
    """A device node means a loaded driver and a card; WSL shows its GPU as /dev/dxg and brings libcuda along."""
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return True
    return Path("/dev/dxg").exists() and Path("/usr/lib/wsl/lib/libcuda.so.1").exists()
