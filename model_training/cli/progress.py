"""Following a job in the terminal: a live bar, the curves of a training over it, plain lines where is none."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.text import Text

from model_training.cli.charts import LEAST_HEIGHT, LEAST_WIDTH, Series, line_chart
from model_training.cli.console import INTERRUPTED, duration, err
from model_training.client.client import Client
from model_training.client.errors import JobFailed
from model_training.client.resources.jobs import JobUpdate
from model_training.contracts.jobs import FINAL_STATES, Job, JobEvent, JobKind, JobState
from model_training.errors import UserError

PLAIN_EVERY_S = 10.0
PLAIN_SILENCE_S = 60.0  # a line that says nothing new is repeated only so often
SHOWN = {
    "loss": "loss {:.3f}",
    "tokens_per_s": "{:.0f} tok/s",
    "eval_loss": "validation {:.3f}",
    "memory_gb": "{:.1f} GB",
}
"""Metrics that the bar shows, by name, and how."""
CURVES = (("loss", "training loss", "cyan"), ("eval_loss", "validation loss", "bold yellow"))
"""Metrics that are drawn over the bar of a training: name, label, colour."""
CHART_ROWS = 18
ROWS_BELOW_CHART = 6
"""For the bar, which may wrap, and the newest events above the picture."""
COUNTED = frozenset({JobKind.TRAIN, JobKind.EVALUATE, JobKind.INDEX})
"""Kinds of job whose progress counts things that a person knows: steps, items, passages. Others count parts of the way."""


class Detached(UserError):
    """Watching was interrupted; the job goes on."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"Stopped watching; job {job_id} goes on.",
            hint=f"Come back with `mt jobs watch {job_id}`, end it with `mt jobs cancel {job_id}`.",
            exit_code=INTERRUPTED,
        )


def watch(client: Client, job_id: str, console: Console | None = None, *, title: str | None = None) -> Job:
    """Show a job until it has succeeded, and return its last state.

    Args:
        console: where to show it; standard error when None.
        title: what the line is called; the job's kind when None.

    Raises:
        Detached: Ctrl-C; the job goes on.
        JobFailed: the job failed or was cancelled.
    """
    where = console or err
    view = _Bar(where, title) if where.is_terminal else _Lines(where, title)
    update: JobUpdate | None = None
    try:
        with view:
            for update in client.jobs.follow(job_id):
                view.show(update)
    except KeyboardInterrupt:
        raise Detached(job_id) from None
    assert update is not None, "following yields at least once"
    if update.job.state != JobState.SUCCEEDED:
        raise JobFailed(update.job)
    return update.job


class _View:
    """What both ways of showing share: the newest metrics, and the job's line of text."""

    def __init__(self, console: Console, title: str | None) -> None:
        self._console = console
        self._title = title
        self._metrics: dict[str, float] = {}
        self._points: dict[int, dict[str, float]] = {}
        self._started = time.monotonic()

    def __enter__(self) -> None:
        """Begin to show."""

    def __exit__(self, *error: object) -> None:
        """End to show."""

    def show(self, update: JobUpdate) -> None:
        """Show what is new."""
        for point in update.metrics:
            self._metrics.update(point.values)
            if (held := point.values.get("memory_bytes")) is not None:
                self._metrics["memory_gb"] = held / 1e9
            self._points.setdefault(point.step, {}).update(point.values)
        for event in update.events:
            if event.level != "info" or event.type in ("message", "checkpoint", "step"):
                self._event(event)
        self._progress(update.job)

    def _event(self, event: JobEvent) -> None:
        styles = {"info": "dim", "warn": "yellow", "error": "red"}
        self._console.print(Text(f"  {event.message}", style=styles[event.level]), soft_wrap=True)

    def _progress(self, job: Job) -> None:
        raise NotImplementedError

    def _name(self, job: Job) -> str:
        return self._title or job.kind.value

    def _clock(self, job: Job) -> str:
        if job.state in FINAL_STATES:
            return f"took {duration(_seconds(job) or time.monotonic() - self._started)}"
        return f"{duration(job.progress.eta_s)} left" if job.progress.eta_s else ""


class _Bar(_View):
    def __init__(self, console: Console, title: str | None) -> None:
        super().__init__(console, title)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
        )
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4)
        self._task: TaskID | None = None

    def __enter__(self) -> None:
        """Begin to draw."""
        self._live.start()

    def __exit__(self, *error: object) -> None:
        """Leave the last picture standing."""
        self._live.stop()

    def _render(self) -> RenderableType:
        height = min(CHART_ROWS, self._console.height - ROWS_BELOW_CHART)
        if height < LEAST_HEIGHT or self._console.width < LEAST_WIDTH or len(self._points) < 2:
            return self._bar
        chart = line_chart(
            [Series(label, colour, self._of(name)) for name, label, colour in CURVES],
            self._console.width - 1,
            height,
        )
        return Group(chart, self._bar)

    def _of(self, name: str) -> list[tuple[float, float]]:
        return [(step, values[name]) for step, values in sorted(self._points.items()) if name in values]

    def _progress(self, job: Job) -> None:
        if self._task is None:
            self._task = self._bar.add_task(self._name(job), total=1.0, detail="")
        fraction = 1.0 if job.state == JobState.SUCCEEDED else job.progress.fraction
        self._bar.update(self._task, completed=fraction, detail=_detail(job, self._metrics, self._clock(job)))


class _Lines(_View):
    def __init__(self, console: Console, title: str | None) -> None:
        super().__init__(console, title)
        self._printed = float("-inf")
        self._state: JobState | None = None
        self._last = ""

    def _progress(self, job: Job) -> None:
        now = time.monotonic()
        if job.state == self._state and now - self._printed < PLAIN_EVERY_S:
            return
        fraction = 1.0 if job.state == JobState.SUCCEEDED else job.progress.fraction
        line = f"{self._name(job)} {job.id} {fraction:4.0%} {_detail(job, self._metrics, self._clock(job))}"
        if line == self._last and now - self._printed < PLAIN_SILENCE_S:
            return
        self._state, self._printed, self._last = job.state, now, line
        self._console.print(Text(line.rstrip()), soft_wrap=True)


def _detail(job: Job, metrics: Mapping[str, float], clock: str) -> str:
    """What stands beside the bar; what the job's own message says already is not said twice."""
    progress = job.progress
    message = progress.message if job.state not in FINAL_STATES else ""
    waiting = f"position {job.queue_position}" if job.queue_position else ""
    known = job.kind in COUNTED and str(progress.total) not in message and job.state not in FINAL_STATES
    step = f"{progress.step}/{progress.total}" if progress.total and known else ""
    values = [text.format(metrics[name]) for name, text in SHOWN.items() if name in metrics]
    said = [part for part in (step, *values) if part and (part == step or _topic(part) not in message)]
    state = "" if job.state in (JobState.RUNNING, JobState.SUCCEEDED) else job.state.value
    return " · ".join(part for part in (state, waiting, message, *said, clock) if part)


def _topic(part: str) -> str:
    """What a part is about: its words without its figures."""
    return " ".join(word for word in part.split() if not word[0].isdigit())


def _seconds(job: Job) -> float | None:
    if job.started_at is None or job.finished_at is None:
        return None
    return (job.finished_at - job.started_at).total_seconds()
