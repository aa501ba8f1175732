"""The platform's processes as a table, and a live view of a start."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from model_training.cli.console import duration, err
from model_training.embedded.state import PlatformState, ServiceState, age_s

STYLES = {"ready": "green", "done": "green", "starting": "yellow", "unready": "yellow", "restarting": "red"}


def services_table(state: PlatformState) -> Table:
    """One line a process."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("service", "state", "port", "pid", "up", "restarts", ""):
        table.add_column(column, justify="right" if column in ("port", "pid", "up", "restarts") else "left")
    for service in state.services:
        alive = service.pid is not None
        table.add_row(
            service.name,
            Text(service.condition, style=STYLES.get(service.condition, "dim")),
            str(service.port or ""),
            str(service.pid or ""),
            duration(age_s(service.started_at)) if alive else "",
            str(service.restarts or ""),
            Text(service.message, style="dim"),
        )
    return table


class StartView:
    """Shows a start as it goes: a table that changes, or a line for each process that is ready."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or err
        # No refresh thread: the foreground supervisor forks, and a process with threads should not.
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._seen: dict[str, str] = {}
        self._phase = ""

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the table away; the caller prints what lasts."""
        if self._console.is_terminal:
            self._live.stop()

    def show(self, state: PlatformState) -> None:
        """Show what changed."""
        if self._console.is_terminal:
            self._live.update(services_table(state), refresh=True)
        for notice in state.notices:
            self._print_once(notice, notice, always=True)
        for service in state.services:
            line = self._line(service)
            if line:
                self._print_once(service.name, line, always=False)

    def _print_once(self, topic: str, line: str, *, always: bool) -> None:
        if self._seen.get(topic) == line:
            return
        self._seen[topic] = line
        if always or not self._console.is_terminal:
            self._console.print(Text(line), soft_wrap=True)

    def _line(self, service: ServiceState) -> str:
        match service.condition:
            case "ready" | "done":
                after = age_s(service.started_at)
                return self._seen.get(service.name) or f"{service.name} {service.condition} ({after:.1f} s)"
            case "restarting":
                return f"{service.name} {service.message}"
            case "starting" if service.port is None and service.message:
                return f"{service.name}: {service.message}"
            case _:
                return ""
