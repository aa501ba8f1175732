"""Watch the platform in the terminal: running jobs with loss and ETA, the queue, the machine, and what is wrong.

It reads what the services measure; this starts a platform on this machine where none runs. Also a program:
`python model_training/monitoring_service/main.py`, which ends with Ctrl-C.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from model_training.cli.console import duration, out, run_script, size
from model_training.cli.session import connect
from model_training.client.client import Client
from model_training.config.monitoring_config import MonitoringConfig
from model_training.contracts.jobs import FINAL_STATES, Job, JobState
from model_training.contracts.monitoring import Resources

RECENT = 10  # newest jobs that are shown


@dataclass(frozen=True)
class Alert:
    """A measured value above its limit."""

    name: str
    message: str


@dataclass(frozen=True)
class Snapshot:
    """One look. `losses` holds the newest training loss by job."""

    jobs: tuple[Job, ...]
    losses: dict[str, float]
    resources: Resources | None
    alerts: tuple[Alert, ...]


@dataclass(frozen=True)
class MonitoringResult:
    """What the watching saw: the last look, and every alert that was raised in between."""

    last: Snapshot
    alerts: tuple[Alert, ...]
    looks: int


def main(config: MonitoringConfig | None = None) -> MonitoringResult:
    """Watch until Ctrl-C, or until the job or all jobs have ended where the configuration says so.

    Raises:
        UserError: the platform cannot be reached or started, or the job does not exist.
    """
    config = config or MonitoringConfig.create_default()
    config.check()
    seen: dict[Alert, None] = {}
    looks = 0
    with connect() as client, Live(console=out, auto_refresh=False) as live:
        last = look(client, config)
        try:
            for snapshot in _looks(client, config, last):
                last, looks = snapshot, looks + 1
                seen.update(dict.fromkeys(last.alerts))
                live.update(_render(last), refresh=True)
        except KeyboardInterrupt:
            pass
    return MonitoringResult(last, tuple(seen), looks)


def look(client: Client, config: MonitoringConfig) -> Snapshot:
    """Measure once."""
    jobs = (client.jobs.get(config.job),) if config.job else tuple(client.jobs.list(limit=RECENT).data)
    resources = client.monitoring.resources() if "resources" in config.watch else None
    losses: dict[str, float] = {}
    for job in jobs:
        if job.kind == "train" and job.state == JobState.RUNNING and "jobs" in config.watch:
            points = client.jobs.metrics(job.id, after=max(-1, job.progress.step - 50)).data
            values = [p.values["loss"] for p in points if "loss" in p.values]
            if values:
                losses[job.id] = values[-1]
    return Snapshot(jobs, losses, resources, tuple(alerts_of(config, jobs, resources, datetime.now(UTC))))


def alerts_of(
    config: MonitoringConfig, jobs: tuple[Job, ...], resources: Resources | None, now: datetime
) -> Iterator[Alert]:
    """Every limit that is passed at a moment."""
    for job in jobs:
        waited = (now - job.created_at).total_seconds()
        if job.state == JobState.QUEUED and waited > config.queue_wait_alert_s:
            yield Alert("queue_wait", f"{job.id} has waited {duration(waited)} for a worker")
    if resources is None:
        return
    host = resources.host
    shares = [("memory", host.memory_used, host.memory_total, config.memory_alert)]
    shares.append(("disk", host.disk_used, host.disk_total, config.disk_alert))
    shares += [
        (f"gpu {g.index} memory", g.memory_used, g.memory_total, config.gpu_memory_alert)
        for g in resources.gpus
    ]
    for name, used, total, limit in shares:
        if total and used / total > limit:
            yield Alert(name, f"{name} is {used / total:.0%} full; the limit is {limit:.0%}")
    for gpu in resources.gpus:
        if gpu.temperature_c is not None and gpu.temperature_c > config.gpu_temperature_warning_c:
            yield Alert("gpu_temperature", f"GPU {gpu.index} has {gpu.temperature_c:.0f} °C")


def _looks(client: Client, config: MonitoringConfig, first: Snapshot) -> Iterator[Snapshot]:
    snapshot = first
    while True:
        yield snapshot
        ended = all(job.state in FINAL_STATES for job in snapshot.jobs)
        if ended and (config.job is not None or config.stop_when_idle):
            return
        time.sleep(config.interval_s)
        snapshot = look(client, config)


def _render(snapshot: Snapshot) -> Group:
    parts: list[Table | Text] = [_jobs_table(snapshot)]
    if snapshot.resources is not None:
        parts += [Text(), _host_line(snapshot.resources), _services_table(snapshot.resources)]
    parts += [Text(f"! {alert.message}", style="bold red") for alert in snapshot.alerts]
    return Group(*parts)


def _jobs_table(snapshot: Snapshot) -> Table:
    table = Table("job", "kind", "state", "progress", "loss", "left", "", box=None, header_style="bold")
    for job in snapshot.jobs:
        loss = snapshot.losses.get(job.id)
        ended = job.state in FINAL_STATES
        table.add_row(
            job.id,
            job.kind.value,
            job.state.value,
            f"{job.progress.fraction:.0%}",
            f"{loss:.3f}" if loss is not None else "",
            "" if ended else duration(job.progress.eta_s),
            Text(job.error.message if job.error else "" if ended else job.progress.message, style="dim"),
        )
    return table


def _host_line(resources: Resources) -> Text:
    host = resources.host
    gpus = "".join(
        f" · GPU {g.index} {g.utilization_percent:.0f}% {size(g.memory_used)}/{size(g.memory_total)}"
        for g in resources.gpus
    )
    return Text(
        f"CPU {host.cpu_percent:.0f}% of {host.cpu_count} · load {host.load_1m:.1f} · memory"
        f" {size(host.memory_used)}/{size(host.memory_total)} · disk {size(host.disk_used)}/{size(host.disk_total)}"
        f"{gpus}"
    )


def _services_table(resources: Resources) -> Table:
    table = Table("service", "cpu", "memory", "processes", box=None, header_style="bold")
    for service in resources.services:
        row = (f"{service.cpu_percent:.0f}%", size(service.memory), str(service.processes))
        table.add_row(service.name, *row)
    return table


if __name__ == "__main__":
    sys.exit(run_script(main))
