"""One job as it goes: progress, curves, resources, samples, events, asked and applied, and the buttons that steer it."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

from model_training.client import Client
from model_training.contracts.fine_tuning import EffectiveSetting, FineTuningJob
from model_training.contracts.jobs import FINAL_STATES, Job, JobEvent, JobKind
from model_training.contracts.monitoring import JobReport
from model_training.errors import UserError
from services.dashboard import training_fields
from services.dashboard.app import Dashboard, View
from services.dashboard.jobwatch import JobWatch
from services.dashboard.layout import heading
from services.dashboard.parts import job_parts, show, states
from services.dashboard.parts.run_chart import RunChart

EVENTS_SHOWN = 100
FACTS = (
    ("loss", "training loss", show.number),
    ("eval_loss", "validation loss", show.number),
    ("learning_rate", "learning rate", show.number),
    ("tokens_per_s", "tokens a second", show.number),
    ("memory_bytes", "memory", show.size),
)
"""Metric, what it is called, how it is written."""


def register(dashboard: Dashboard) -> None:
    """`/jobs/{job_id}`."""

    @dashboard.page("/jobs/{job_id}", title="Job")
    def job(view: View, job_id: str) -> None:
        ui.label(job_id).classes("mono soft wrap")
        head = _Head(view)
        body = ui.element("div").classes("live")
        page = _Body(view, body)

        def changed(watch: JobWatch) -> None:
            if watch.job is None:
                head.failed(watch.error)
                return
            head.show(watch.job, watch)
            page.show(watch.job, watch)

        view.watch(job_id, changed)


class _Head:
    """State, progress and buttons; drawn anew when the state changes, otherwise only its texts change."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._box = ui.element("section").classes("card")
        self._drawn = ""
        with self._box:
            states.loading("Looking for the job")

    def failed(self, error: UserError | None) -> None:
        """The job cannot be had."""
        self._box.clear()
        with self._box:
            states.error(error or "The job cannot be read.")

    def show(self, job: Job, watch: JobWatch) -> None:
        """The job as it is now."""
        if self._drawn != job.state.value:
            self._drawn = job.state.value
            self._draw(job)
        self._fraction.style(f"width: {round(100 * job.progress.fraction)}%")
        self._track.props["aria-valuenow"] = str(round(100 * job.progress.fraction))
        self._message.set_text(job.progress.message)
        self._percent.set_text(f"{job.progress.fraction:.0%}")
        late = "the event stream is away; trying again" if watch.error else ""
        self._left.set_text(
            late or (_waits(job) if job.state == "queued" else job_parts.ends_in(None, job.progress.eta_s))
        )

    def _draw(self, job: Job) -> None:
        self._box.clear()
        with self._box:
            with ui.row().classes("items-center justify-between full"):
                with ui.row().classes("items-center"):
                    show.pill(job.state.value)()
                    heading({JobKind.TRAIN: "Training"}.get(job.kind, job.kind.value.capitalize()))
                job_parts.steering(self._view, job)
            self._track = (
                ui.element("div").classes("bar-track").props('role="progressbar" aria-label="Progress"')
            )
            with self._track:
                self._fraction = ui.element("div").classes("bar-fill")
            with ui.row().classes("justify-between full small soft"):
                self._message = ui.label().classes("wrap")
                with ui.row().classes("num"):
                    self._percent, self._left = ui.label(), ui.label()
            _times(job)
            if job.error is not None:
                states.error(job.error.message, job.error.hint)


def _waits(job: Job) -> str:
    return f"number {job.queue_position} in the queue" if job.queue_position else "in the queue"


def _times(job: Job) -> None:
    with ui.row().classes("small soft"):
        ui.label("created")
        show.moment(job.created_at)()
        if (took := job_parts.took_s(job)) is not None:
            ui.label(f"took {show.duration(took)}").classes("num")
        if job.attempt > 1:
            ui.label(f"attempt {job.attempt} of {job.max_attempts}")


class _Body:
    """Everything below the head, drawn once the kind of job is known."""

    def __init__(self, view: View, box: ui.element) -> None:
        self._view = view
        self._box = box
        self._job: Job | None = None
        self._listeners: list[Callable[[Job, JobWatch], None]] = []

    def show(self, job: Job, watch: JobWatch) -> None:
        """The job as it is now."""
        if self._job is None:
            with self._box:
                self._draw(job)
        self._job = job
        for listener in self._listeners:
            listener(job, watch)

    def _draw(self, job: Job) -> None:
        if job.kind == JobKind.TRAIN:
            self._draw_training(job)
        elif (target := job_parts.PAGES.get(job.kind)) is not None:
            show.link("See the result", target.format(job.id))()
        elif job.kind == JobKind.PIPELINE:
            with _card("Steps"):
                self._view.live(f"pipeline:{job.id}", lambda c: c.pipelines.get(job.id), _steps, every_s=3)
        with _card("How it goes"):
            self._view.live(f"report:{job.id}", lambda c: _report(c, job.id), _resources, every_s=5)
        with _card("Events"):
            self._listeners.append(_Events().show)

    def _draw_training(self, job: Job) -> None:
        self._listeners.append(_Figures().show)
        with ui.element("div").classes("grid wide"):
            with _card("Loss"):
                loss = RunChart(
                    [("loss", "training", False), ("eval_loss", "validation", True)],
                    y="nats a token",
                    smooth=True,
                )
            with _card("Course"):
                other = _Chosen()

        def show_loss(job: Job, watch: JobWatch) -> None:
            loss.show([(job.id, watch.curves)])

        self._listeners += [show_loss, other.show]
        self._view.live(f"train:{job.id}", lambda c: c.fine_tuning.get(job.id), _outcome, every_s=5)
        self._listeners += [_Applied().show, _Samples().show]
        again = f"/train/new?like={job.id}"
        show.link("Train again with other settings", again)()


def _card(title: str) -> ui.element:
    card = ui.element("section").classes("card")
    with card:
        heading(title)
    return card


def _report(client: Client, job_id: str) -> JobReport | None:
    """How it goes, as the monitor sees it; None where it has not seen the job."""
    try:
        return client.monitoring.job(job_id)
    except UserError:
        return None


def _resources(report: JobReport | None) -> None:
    if report is None:
        ui.label("The monitor has not seen this job.").classes("soft")
        return
    if report.sentence:
        ui.label(report.sentence).classes("wrap")
    for finding in report.findings:
        ui.label(finding.message).classes("notice warn")
    used = report.usage
    pairs = [("waited", show.duration(report.queue_wait_s))]
    if report.remaining is not None:
        left = f"{show.duration(report.remaining.low)} to {show.duration(report.remaining.high)}"
        pairs.append(("left, four times in five", left))
    if used is not None:
        pairs += [
            ("running", show.duration(used.wall_s)),
            ("processor time", show.duration(used.cpu_s)),
            ("memory at its peak", show.size(used.memory_peak)),
        ]
        if used.gpu_s:
            pairs += [
                ("GPU time", show.duration(used.gpu_s)),
                ("GPU memory at its peak", show.size(used.gpu_memory_peak)),
            ]
        if used.energy_j:
            pairs.append(("energy", f"{show.number(used.energy_j / 3600, 3)} Wh"))
    show.tiles(pairs)


class _Figures:
    """The newest values, as large figures."""

    def __init__(self) -> None:
        self._labels: dict[str, ui.label] = {}
        with ui.element("section").classes("card"), ui.element("div").classes("tiles"):
            for name, title, _ in FACTS:
                with ui.element("div").classes("tile"):
                    self._labels[name] = ui.label("–").classes("tile-value")
                    ui.label(title).classes("tile-label")

    def show(self, job: Job, watch: JobWatch) -> None:
        """The newest of each."""
        for name, _, write in FACTS:
            curve = watch.curves.by_name.get(name)
            if curve is not None and len(curve):
                self._labels[name].set_text(write(curve.values[-1]))


class _Chosen:
    """A chart of one metric that the reader chooses."""

    def __init__(self) -> None:
        self._choice = ui.select([], label="Metric").props("dense outlined options-dense").classes("full")
        self._box = ui.element("div").classes("full")
        self._chart: RunChart | None = None
        self._watch: JobWatch | None = None
        self._choice.on_value_change(self._choose)

    def show(self, job: Job, watch: JobWatch) -> None:
        """Offer what the job measures, and draw the chosen."""
        self._watch = watch
        names = [name for name in watch.curves.by_name if name not in ("loss", "eval_loss")]
        if names and names != self._choice.options:
            first = self._choice.value or ("learning_rate" if "learning_rate" in names else names[0])
            self._choice.set_options(names, value=first)
        if self._chart is not None:
            self._chart.show([(watch.job_id, watch.curves)])

    def _choose(self) -> None:
        if self._watch is None or not self._choice.value:
            return
        self._box.clear()
        with self._box:
            self._chart = RunChart([(str(self._choice.value), str(self._choice.value), False)])
        self._chart.show([(self._watch.job_id, self._watch.curves)])


class _Applied:
    """What was asked and what is applied, as the trainer has planned it; once the job has ended, its outcome says so."""

    def __init__(self) -> None:
        self._box = ui.element("div").classes("live")
        self._drawn = False

    def show(self, job: Job, watch: JobWatch) -> None:
        """Draw it when it is known, and take it away at the end."""
        if job.state in FINAL_STATES:
            self._box.clear()
            return
        plan = next((event for event in watch.events if event.type == "plan"), None)
        if plan is None or self._drawn:
            return
        self._drawn = True
        with self._box, _card("Asked and applied"):
            _applied([EffectiveSetting.model_validate(one) for one in plan.data.get("effective", [])])


def _applied(settings: list[EffectiveSetting]) -> None:
    rows: list[list[show.Cell]] = [
        [one.field, training_fields.written(one.asked), training_fields.written(one.applied), one.reason]
        for one in settings
    ]
    show.table(["Setting", "Asked", "Applied", "Why"], rows, label="Asked and applied")


class _Samples:
    """Answers that the model wrote at validations, newest first, so that one sees them improve."""

    def __init__(self) -> None:
        self._box = ui.element("div").classes("live")
        self._seen = 0

    def show(self, job: Job, watch: JobWatch) -> None:
        """Draw them anew when there are new ones."""
        found = [event for event in watch.events if event.type == "samples"]
        if not found or found[-1].sequence == self._seen:
            return
        self._seen = found[-1].sequence
        self._box.clear()
        with self._box, _card("Sample answers"):
            for position, sample in enumerate(found[-1].data.get("samples", [])):
                with ui.expansion(str(sample.get("question", ""))[:200], value=position == 0).classes("full"):
                    show.facts([("wanted", _text(sample.get("wanted")))])
                    for event in reversed(found[-6:]):
                        rows = event.data.get("samples", [])
                        if position < len(rows):
                            show.facts(
                                [(f"step {event.data.get('step')}", _text(rows[position].get("answer")))]
                            )


def _text(value: object) -> Callable[[], ui.label]:
    return lambda: ui.label(str(value or "")).classes("mono pre")


class _Events:
    """The newest events, newest first."""

    def __init__(self) -> None:
        with (
            ui.element("div")
            .classes("event-list")
            .props('tabindex="0" role="log" aria-label="Events"') as box
        ):
            self._box = box
        self._last = 0

    def show(self, job: Job, watch: JobWatch) -> None:
        """Add what is new on top."""
        new = [event for event in watch.events if event.sequence > self._last]
        if not new:
            return
        self._last = new[-1].sequence
        with self._box:
            for event in new[-EVENTS_SHOWN:]:
                _event(event).move(target_index=0)
        for old in self._box.default_slot.children[EVENTS_SHOWN:]:
            old.delete()


def _event(event: JobEvent) -> ui.element:
    with ui.element("div").classes(f"event {event.level}") as row:
        show.moment(event.created_at)()
        ui.label(event.message).classes("wrap")
    return row


def _outcome(job: FineTuningJob) -> None:
    """What became of it, and what was asked and applied."""
    if job.fine_tuned_model:
        with ui.row().classes("notice good items-center"):
            ui.label("It made the model")
            show.link(job.fine_tuned_model, f"/models/{job.fine_tuned_model}", mono=True)()
            if job.early_stopped:
                ui.label(f"It stopped early; the best step was {job.best_step}.")
    with _card("Settings"):
        show.facts(
            [
                ("model", job.model),
                ("training file", show.link(job.training_file, f"/data/{job.training_file}", mono=True)),
                ("rows at a time", str(job.hyperparameters.batch_size)),
                ("epochs", str(job.hyperparameters.n_epochs)),
                ("seed", str(job.seed)),
            ]
        )
        if job.effective:
            heading("Asked and applied", level=3)
            _applied(job.effective)
        elif job.status in FINAL_STATES:
            ui.label("Everything was applied as it was asked.").classes("soft")
        if job.metrics:
            heading("Measured", level=3)
            show.facts([(name, show.number(value)) for name, value in job.metrics.items()])


def _steps(pipeline: object) -> None:
    from model_training.contracts.pipelines import Pipeline

    assert isinstance(pipeline, Pipeline)
    rows: list[list[show.Cell]] = []
    for step in pipeline.steps:
        target = job_parts.PAGES.get(step.kind, "/jobs/{}").format(step.job_id)
        rows.append(
            [
                show.link(step.name, target) if step.job_id else step.name,
                step.kind.value,
                show.pill(
                    f"{step.state.value}{', reused' if step.reused else ''}",
                    show.TONES.get(step.state.value, ""),
                ),
                f"{step.progress.fraction:.0%}",
                step.error.message if step.error else step.progress.message,
            ]
        )
    show.table(["Step", "Kind", "State", "Progress", ""], rows, numbers=[3], label="Steps")
