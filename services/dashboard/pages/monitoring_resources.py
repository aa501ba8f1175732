"""What the machine does, now and over time, and for which job."""

from __future__ import annotations

from functools import partial

from nicegui import ui

from model_training.contracts.monitoring import History, Resources, RunningJob
from services.dashboard.app import View
from services.dashboard.layout import heading
from services.dashboard.parts import answers, history, show, states
from services.dashboard.views.spans import SPANS, curves, start_of

CHARTS = (
    ("mt_host_cpu_ratio", "Processor", "% of all cores", 100.0),
    ("mt_host_memory_used_bytes", "Memory in use", "GB", 1e-9),
    ("mt_gpu_utilization_ratio", "GPU at work", "%", 100.0),
    ("mt_gpu_memory_used_bytes", "GPU memory in use", "GB", 1e-9),
    ("mt_service_cpu_cores", "Processor by service", "cores", 1.0),
    ("mt_training_tokens_per_second", "Training", "tokens a second", 1.0),
)


def draw(view: View, span: str) -> None:
    """Now, jobs, services, over time."""
    view.live("resources", lambda client: client.monitoring.resources(), _now, every_s=5.0)
    with ui.row().classes("items-center"):
        heading("Over time")
        select = ui.select({name: words for name, (words, _) in SPANS.items()}, label="Stretch", value=span)
        select.props("outlined dense")
        select.on_value_change(lambda event: ui.navigate.to(f"/monitoring?tab=resources&span={event.value}"))
    with ui.element("div").classes("grid"):
        for metric, title, unit, factor in CHARTS:
            with ui.element("section").classes("card"):
                heading(title, level=3)
                view.live(
                    f"history/{metric}/{span}",
                    lambda client, m=metric: client.monitoring.history(m, start=start_of(span)),
                    partial(_chart, title=title, unit=unit, factor=factor),
                    every_s=60.0,
                )


def _chart(found: History, *, title: str, unit: str, factor: float) -> None:
    lines = curves(found, factor=factor)
    if not lines:
        ui.label("No readings.").classes("soft")
        return
    history.chart(lines, unit=unit, label=f"{title} over time, {unit}", low=0)


def _now(found: Resources) -> None:
    host = found.host
    show.tiles(
        [
            (f"processor, of {host.cpu_count} cores", f"{host.cpu_percent:.0f}%"),
            (f"memory, of {show.size(host.memory_total)}", show.size(host.memory_used)),
            (f"disk, of {show.size(host.disk_total)}", show.size(host.disk_used)),
            ("load over a minute", f"{host.load_1m:.2f}"),
            ("jobs waiting", f"{sum(queue.queued for queue in found.queues):,}"),
        ]
    )
    if found.gpus:
        show.table(
            ["GPU", "At work", "Memory", "Temperature", "Power"],
            [
                [
                    f"{gpu.index}: {gpu.name}",
                    f"{gpu.utilization_percent:.0f}%",
                    f"{show.size(gpu.memory_used)} of {show.size(gpu.memory_total)}",
                    "–" if gpu.temperature_c is None else f"{gpu.temperature_c:.0f} °C",
                    "–" if gpu.power_w is None else f"{gpu.power_w:.0f} W",
                ]
                for gpu in found.gpus
            ],
            numbers=(1, 2, 3, 4),
            label="GPUs",
        )
    heading("By job")
    _jobs(found.jobs)
    heading("By service")
    show.table(
        ["Service", "Processor", "Memory", "Processes"],
        [
            [one.name, f"{one.cpu_percent / 100:.2f} cores", show.size(one.memory), one.processes]
            for one in found.services
        ],
        numbers=(1, 2, 3),
        label="Services",
    )


def _jobs(jobs: list[RunningJob]) -> None:
    if not jobs:
        states.empty(
            "No job runs now.", "While one does, its processor time, memory, GPU time and energy stand here."
        )
        return
    show.table(
        ["Job", "Done", "Ends in", "Processor", "Memory, peak", "GPU", "Energy", "Noticed"],
        [_job(job) for job in jobs],
        numbers=(1, 2, 3, 4, 5, 6),
        label="Resources by job",
    )


def _job(job: RunningJob) -> list[show.Cell]:
    used, left = job.usage, job.remaining
    return [
        show.link(job.id, f"/jobs/{job.id}", mono=True),
        show.percent(job.progress.fraction),
        f"{show.duration(left.low)} to {show.duration(left.high)}" if left else "–",
        show.duration(used.cpu_s) if used else "–",
        show.size(used.memory_peak) if used else "–",
        show.duration(used.gpu_s) if used and used.gpu_s else "–",
        f"{used.energy_j / 3600:.3g} Wh" if used and used.energy_j else "–",
        answers.visible(", ".join(one.message for one in job.findings)) or "nothing",
    ]
