"""What a machine takes while it is loaded: processor, memory, graphics cards, and energy where it can be read.

Energy is counted by the hardware: RAPL's package counters (`/sys/class/powercap`, Intel and AMD; usually for root alone) and
NVML's counter of each card. It is that of the whole machine, whoever caused it, without its power supply, disks and fans.
What cannot be read is said, not estimated.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import psutil

POWERCAP = Path("/sys/class/powercap")
SAMPLE_S = 1.0
"""Often enough for counters that begin anew (RAPL's after 65 to 260 kJ) to be followed."""


class Counter(Protocol):
    """Energy since some moment, in joules."""

    name: str

    def joules(self) -> float:
        """Never falls. Raises OSError where it cannot be read any more."""
        ...


class Rapl:
    """One package's counter, which begins anew when it is full."""

    def __init__(self, zone: Path) -> None:
        """Raises OSError where the counter cannot be read."""
        self.name = (zone / "name").read_text(encoding="utf-8").strip()
        self._file = zone / "energy_uj"
        self._range = int((zone / "max_energy_range_uj").read_text(encoding="utf-8"))
        self._last = self._read()
        self._full = 0

    def joules(self) -> float:
        """See `Counter`; to be asked at least once while the counter fills."""
        now = self._read()
        self._full += self._range * (now < self._last)
        self._last = now
        return (self._full + now) / 1e6

    def _read(self) -> int:
        return int(self._file.read_text(encoding="utf-8"))


class Card:
    """One NVIDIA card's counter."""

    def __init__(self, library: Any, index: int) -> None:
        """Raises the library's error where the card has no counter."""
        self._library, self._handle = library, library.nvmlDeviceGetHandleByIndex(index)
        self.name = f"gpu-{index}"
        self.joules()

    def joules(self) -> float:
        """See `Counter`."""
        return self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000

    def look(self) -> tuple[float, float]:
        """Percent of the time that it works, and memory used in bytes."""
        busy = self._library.nvmlDeviceGetUtilizationRates(self._handle).gpu
        return float(busy), float(self._library.nvmlDeviceGetMemoryInfo(self._handle).used)


def rapl_counters(root: Path = POWERCAP) -> tuple[list[Counter], list[str]]:
    """The packages' counters, and why there are none."""
    zones = sorted(zone for zone in root.glob("intel-rapl:*") if zone.name.count(":") == 1)
    if not zones:
        return [], [
            f"processor: no RAPL counters below {root} (a virtual machine, or a processor without them)"
        ]
    found: list[Counter] = []
    missing: list[str] = []
    for zone in zones:
        try:
            found.append(Rapl(zone))
        except (OSError, ValueError) as error:
            missing.append(f"processor: {zone.name} cannot be read ({error}); root may")
    return found, missing


def cards() -> tuple[list[Card], list[str]]:
    """The machine's NVIDIA cards with an energy counter, and why there are none."""
    try:
        import pynvml  # pyright: ignore[reportMissingTypeStubs]

        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except Exception as error:  # the library's own errors, and its absence
        return [], [f"graphics cards: none that NVML knows ({type(error).__name__})"]
    found: list[Card] = []
    missing: list[str] = []
    for index in range(count):
        try:
            found.append(Card(pynvml, index))
        except pynvml.NVMLError as error:
            missing.append(f"graphics card {index}: no energy counter ({error})")
    return found, missing


@dataclass(frozen=True)
class Usage:
    """A machine during a run. Energy in joules by counter; without any counter it is None, and `not_measured` says why."""

    seconds: float
    cpu_percent: float
    client_cpu_percent: float
    memory_used_percent: float
    gpu_percent: float | None
    gpu_memory_used: float | None
    energy_j: dict[str, float]
    not_measured: list[str] = field(default_factory=list[str])

    @property
    def total_j(self) -> float | None:
        """Of all counters; None without one."""
        return sum(self.energy_j.values()) if self.energy_j else None

    def per(self, requests: int, tokens: int) -> dict[str, Any]:
        """The figures for people: mean power in W, energy in Wh, for an answer and for 1,000 tokens."""
        total = self.total_j
        if total is None:
            return {"measured": False, "why": self.not_measured}
        return {
            "measured": True,
            "watts": total / self.seconds,
            "wh": total / 3600,
            "wh_per_answer": total / 3600 / requests if requests else None,
            "wh_per_1000_tokens": total / 3.6 / tokens if tokens else None,
            "joules": self.energy_j,
            "left_out": self.not_measured,
            "of": "all that ran on this machine, the warm-up too; without power supply, disks and fans",
        }


class Meter:
    """Watches the machine from `__enter__` to `__exit__`; then `usage` says what it took."""

    def __init__(
        self,
        find_rapl: Callable[[], tuple[list[Counter], list[str]]] = rapl_counters,
        find_cards: Callable[[], tuple[list[Card], list[str]]] = cards,
    ) -> None:
        packages, no_packages = find_rapl()
        self._cards, no_cards = find_cards()
        self._counters: Sequence[Counter] = [*packages, *self._cards]
        self._missing = [*no_packages, *no_cards]
        self._process = psutil.Process()
        self._samples: list[tuple[float, float, float, float | None, float | None]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="meter", daemon=True)

    def __enter__(self) -> Meter:
        psutil.cpu_percent()
        self._process.cpu_percent()
        self._begun_j = {counter.name: counter.joules() for counter in self._counters}
        self._begun = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._seconds = time.monotonic() - self._begun
        ended = {counter.name: counter.joules() for counter in self._counters}
        self._energy = {name: ended[name] - begun for name, begun in self._begun_j.items()}

    @property
    def usage(self) -> Usage:
        """Means over the run; memory is the highest that was seen."""
        cpu, client, memory, busy, used = zip(*self._samples, strict=True)
        return Usage(
            seconds=self._seconds,
            cpu_percent=fmean(cpu),
            client_cpu_percent=fmean(client),
            memory_used_percent=max(memory),
            gpu_percent=fmean(busy) if self._cards else None,
            gpu_memory_used=max(used) if self._cards else None,
            energy_j=self._energy,
            not_measured=self._missing,
        )

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self._sample()
        self._sample()

    def _sample(self) -> None:
        for counter in self._counters:
            counter.joules()
        looks = [card.look() for card in self._cards]
        self._samples.append(
            (
                psutil.cpu_percent(),
                self._process.cpu_percent(),
                psutil.virtual_memory().percent,
                fmean(busy for busy, _ in looks) if looks else None,
                sum(used for _, used in looks) if looks else None,
            )
        )
