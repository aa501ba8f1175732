"""What psutil knows of this machine and of the platform's processes on it."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

import psutil

from model_training.contracts.monitoring import HostUsage, ProcessUsage
from model_training.embedded.state import current
from model_training.home import Home
from services.monitor.domain.attribution import ProcessLook


class Host:
    """Measures the machine. Percentages cover the time since the last call, so one object is kept."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._known: dict[int, psutil.Process] = {}
        self._lock = threading.Lock()
        psutil.cpu_percent()  # the first call only sets the mark

    def usage(self) -> HostUsage:
        """The machine now."""
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(str(self._home))
        network = psutil.net_io_counters()
        return HostUsage(
            cpu_percent=psutil.cpu_percent(),
            cpu_count=psutil.cpu_count() or 1,
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            disk_used=disk.used,
            disk_total=disk.total,
            load_1m=os.getloadavg()[0],
            network_received=network.bytes_recv if network else 0,
            network_sent=network.bytes_sent if network else 0,
        )

    def names(self) -> set[str]:
        """The services of the platform that runs here; none where others run it."""
        state = current(Home(self._home))
        return {service.name for service in state.services} if state else set()

    def services(self) -> list[ProcessUsage]:
        """The processes of the platform that runs here, each with its children; only ourselves where others run it."""
        state = current(Home(self._home))
        named = [(s.name, s.pid) for s in state.services if s.pid is not None] if state else []
        with self._lock:
            usages = [self._family(name, pid) for name, pid in named or [("monitor", os.getpid())]]
            self._known = {pid: p for pid, p in self._known.items() if p.is_running()}
        return [usage for usage in usages if usage is not None]

    def family(self, owner: str) -> list[ProcessLook]:
        """The processes that a worker (`host:pid`) of this machine has started; none if it is elsewhere or gone."""
        host, _, pid = owner.rpartition(":")
        if host != socket.gethostname() or not pid.isdigit():
            return []
        try:
            return _looks(psutil.Process(int(pid)).children(recursive=True))
        except psutil.Error:
            return []

    def service(self, name: str) -> list[ProcessLook]:
        """The processes of a service of the platform that runs here; none where others run it."""
        state = current(Home(self._home))
        pid = next((s.pid for s in state.services if s.name == name), None) if state else None
        try:
            first = psutil.Process(pid) if pid is not None else None
            return _looks([first, *first.children(recursive=True)]) if first else []
        except psutil.Error:
            return []

    def _family(self, name: str, pid: int) -> ProcessUsage | None:
        try:
            first = self._process(pid)
            family = [first, *(self._process(child.pid) for child in first.children(recursive=True))]
        except psutil.NoSuchProcess:
            return None
        cpu, memory, cpu_s = 0.0, 0, 0.0
        for process in family:
            try:
                cpu += process.cpu_percent()
                memory += process.memory_info().rss
                cpu_s += sum(process.cpu_times()[:2])
            except psutil.Error:
                continue  # ended meanwhile
        return ProcessUsage(
            name=name, pid=pid, cpu_percent=cpu, memory=memory, processes=len(family), cpu_s=cpu_s
        )

    def _process(self, pid: int) -> psutil.Process:
        known = self._known.get(pid)
        if known is None or not known.is_running():
            known = self._known[pid] = psutil.Process(pid)
        return known


def _looks(processes: list[psutil.Process]) -> list[ProcessLook]:
    """One that ended meanwhile is left out."""
    found: list[ProcessLook] = []
    for process in processes:
        with suppress(psutil.Error), process.oneshot():
            cpu_s = sum(process.cpu_times()[:2])
            found.append(ProcessLook(process.pid, process.create_time(), cpu_s, process.memory_info().rss))
    return found
