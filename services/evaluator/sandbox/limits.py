"""How much an answer may use. CPU time gives the verdict, so that a slow or busy machine changes none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of one answer. `wall_s` is a backstop for programs that sleep; it is far above `cpu_s` on purpose."""

    cpu_s: int = 4
    """Seconds of processor time for each of its processes."""
    wall_s: float = 30.0
    """Seconds from start to end, whatever the process did."""
    memory_mb: int = 256
    """Address space on top of what the warmed interpreter holds."""
    file_mb: int = 8
    """Size of one file, and of all of them together."""
    files: int = 64
    """Files and directories."""
    processes: int = 8
    """Processes and threads at once."""
    open_files: int = 64
