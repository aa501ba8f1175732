"""A new training: a form made of the configuration schema, and beside it what the job would take and be refused for."""

from __future__ import annotations

import asyncio
from typing import Any

from nicegui import ui
from pydantic import ValidationError

from model_training.client import Client
from model_training.config.catalogue import CATALOGUE
from model_training.contracts.base import Page
from model_training.contracts.dry_runs import DryRun, Estimate
from model_training.contracts.files import FileObject, FilePurpose
from model_training.contracts.fine_tuning import FineTuningJobCreate
from model_training.errors import UserError
from services.dashboard import training_fields
from services.dashboard.app import Dashboard, View
from services.dashboard.feeds import Snapshot
from services.dashboard.layout import heading
from services.dashboard.parts import show, states
from services.dashboard.training_fields import Field

PAUSE_S = 0.5
"""How long nothing must be typed before the estimate is asked for."""


def register(dashboard: Dashboard) -> None:
    """`/train/new`."""

    @dashboard.page("/train/new", title="New training")
    def new(view: View, file: str = "", preset: str = "", like: str = "") -> None:
        form = TrainForm(view)
        form.start_with(file, preset, like)


class TrainForm:
    """The inputs, and the panel that answers to them."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._inputs: dict[str, Any] = {}
        self._hints: dict[str, ui.label] = {}
        self._turn = 0
        with ui.element("div").classes("split"):
            with ui.element("div").classes("live"):
                self._draw_choices()
                for number, (title, names) in enumerate(training_fields.GROUPS):
                    self._draw_group(title, names, is_open=number == 0)
            with ui.element("aside").classes("card sticky").props('aria-live="polite" aria-label="Estimate"'):
                heading("What it would take")
                self._start = ui.button("Start training", icon="play_arrow", on_click=self._submit)
                self._start.props("unelevated").classes("full")
                self._answer = ui.element("div").classes("live")
                self._start.set_enabled(False)

    def start_with(self, file: str, preset: str, like: str) -> None:
        """Fill in what the address names, and ask for the first estimate."""
        if preset in training_fields.presets():
            self._preset.set_value(preset)
        if file:
            self._files(Snapshot(Page[FileObject](data=[])), wanted=file)
        feed = self._view.feed(
            "files:fine-tune", lambda c: c.files.list(purpose=FilePurpose.FINE_TUNE, limit=100)
        )
        self._view.listen(feed, self._files)
        if like:
            self._view.later(self._copy(like))
        self._ask_soon()

    def _draw_choices(self) -> None:
        with ui.element("section").classes("card"):
            heading("Model and data")
            with ui.element("div").classes("form-grid"):
                models = {
                    name: f"{name} ({show.number(entry.parameters / 1e6, 3)} M)"
                    for name, entry in CATALOGUE.items()
                }
                self._model = self._select("Model", models, training_fields.fields()["model_name"].default)
                self._file = self._select("Training rows", {}, None)
                self._validation = self._select("Validation rows (else a share is held out)", {}, None).props(
                    "clearable"
                )
                presets = {name: f"{name}: {text}" for name, text in training_fields.presets().items()}
                self._preset = ui.select(presets, label="Preset").props(
                    "outlined dense clearable options-dense"
                )
                self._preset.on_value_change(self._apply_preset)
                self._suffix = ui.input("Word in the tuned model's name").props("outlined dense maxlength=64")
                self._suffix.on_value_change(self._ask_soon)
            self._no_files = ui.element("div").classes("notice")
            with self._no_files:
                ui.label("There are no training rows yet.")
                show.link("Upload a file, or learn a library", "/data")()
            self._no_files.set_visibility(False)

    def _select(self, label: str, options: dict[str, str], value: Any) -> ui.select:
        select = ui.select(options, label=label, value=value, with_input=len(options) > 8)
        select.props("outlined dense options-dense").on_value_change(self._ask_soon)
        return select

    def _draw_group(self, title: str, names: tuple[str, ...], *, is_open: bool) -> None:
        with ui.element("section").classes("card"):
            group = ui.expansion(title, value=is_open).classes("full group")
        with group, ui.element("div").classes("form-grid"):
            for name in names:
                self._draw_field(training_fields.fields()[name])

    def _draw_field(self, field: Field) -> None:
        with ui.element("div").classes("field"):
            made = _input(field)
            made.on_value_change(self._ask_soon)
            self._hints[field.name] = ui.label(field.hint).classes("soft hint")
            made.props["aria-describedby"] = self._hints[field.name].html_id
            self._inputs[field.name] = made

    def _files(self, snapshot: Snapshot[Page[FileObject]], wanted: str = "") -> None:
        if snapshot.value is None:
            return
        options = {
            file.id: f"{file.filename} · {show.size(file.bytes)} · {file.id}" for file in snapshot.value.data
        }
        chosen = wanted or self._file.value or next(iter(options), None)
        if chosen and chosen not in options:
            options[chosen] = chosen
        self._no_files.set_visibility(not options)
        if options != self._file.options:
            self._file.set_options(options, value=chosen)
            self._validation.set_options(options, value=self._validation.value)

    def _apply_preset(self) -> None:
        if not self._preset.value:
            return
        values = training_fields.preset_values(str(self._preset.value))
        self._set(values)
        if (model := values.get("model_name")) in CATALOGUE:
            self._model.set_value(model)
        self._ask_soon()

    def _set(self, values: dict[str, Any]) -> None:
        """Put values into the inputs; all others go back to their defaults."""
        for name, made in self._inputs.items():
            field = training_fields.fields()[name]
            value = values.get(name, field.default)
            made.set_value(training_fields.json.dumps(value) if field.kind == "object" else value)

    async def _copy(self, job_id: str) -> None:
        job = await self._view.call(lambda c: c.jobs.get(job_id))
        asked = job.spec.get("asked", {})
        self._set(job.spec.get("config", {}))
        if (model := asked.get("model")) in CATALOGUE:
            self._model.set_value(model)
        if file := asked.get("training_file"):
            self._files(Snapshot(Page[FileObject](data=[])), wanted=str(file))
        self._ask_soon()

    def _request(self) -> FineTuningJobCreate:
        """What would be sent.

        Raises:
            UserError: an input is no value of its field, or there is no file.
        """
        if not self._file.value:
            raise UserError(
                "No training rows are chosen.",
                hint="Upload a file on the page Data, or learn a library there.",
            )
        try:
            values = {
                name: training_fields.read(training_fields.fields()[name], made.value)
                for name, made in self._inputs.items()
            }
            return FineTuningJobCreate(
                model=str(self._model.value),
                training_file=str(self._file.value),
                validation_file=self._validation.value or None,
                suffix=str(self._suffix.value).strip() or None if self._suffix.value else None,
                training=training_fields.changed(values),
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from error
        except (ValueError, TypeError) as error:
            raise UserError(str(error)) from error

    def _ask_soon(self) -> None:
        self._turn += 1
        self._start.set_enabled(False)
        self._view.later(self._ask(self._turn))

    async def _ask(self, turn: int) -> None:
        await asyncio.sleep(PAUSE_S)
        if turn != self._turn:
            return  # something was typed since; that turn asks
        try:
            request = self._request()
            found: DryRun | UserError = await self._view.call(lambda c: c.fine_tuning.dry_run(request))
        except UserError as error:
            found = error
        if turn == self._turn and not self._answer.is_deleted:
            self._show(found)

    def _show(self, found: DryRun | UserError) -> None:
        self._answer.clear()
        with self._answer:
            if isinstance(found, UserError):
                states.error(found)
            else:
                _dry_run(found)
        self._start.set_enabled(isinstance(found, DryRun) and found.accepted)
        refused = {one.param: one.message for one in found.refusals} if isinstance(found, DryRun) else {}
        for name, made in self._inputs.items():
            hint = self._hints[name]
            made.props["error"] = name in refused
            hint.set_text(refused.get(name, training_fields.fields()[name].hint))
            if name in refused:
                hint.classes("bad-ink")
            else:
                hint.classes(remove="bad-ink")

    async def _submit(self) -> None:
        self._start.set_enabled(False)
        try:
            request = self._request()
        except UserError as error:
            self._view.notify_error(error)
            return
        job = await self._view.attempt(lambda c: _create(c, request), refresh=("jobs", "trainings"))
        if job is not None:
            ui.navigate.to(f"/jobs/{job}")
        else:
            self._start.set_enabled(True)


def _create(client: Client, request: FineTuningJobCreate) -> str:
    return client.fine_tuning.submit(request).id


def _input(field: Field) -> Any:
    if field.kind == "switch":
        return ui.switch(field.label, value=bool(field.default))
    if field.kind == "choice":
        names = {choice: training_fields.written(choice) for choice in field.choices}
        return ui.select(names, label=field.label, value=field.default).props("outlined dense options-dense")
    if field.kind == "choices":
        chosen = ui.select(list(field.choices), label=field.label, value=list(field.default), multiple=True)
        return chosen.props("outlined dense options-dense use-chips")
    if field.kind in ("whole", "number"):
        made = ui.number(field.label, value=field.default, step=1 if field.kind == "whole" else None)
        made.props("outlined dense no-error-icon" + (" clearable" if field.optional else ""))
        if field.kind == "number":
            made.props("step=any")
        return made
    text = training_fields.json.dumps(field.default) if field.kind == "object" else str(field.default or "")
    return ui.input(field.label, value=text).props("outlined dense")


def _dry_run(found: DryRun) -> None:
    if found.accepted:
        ui.label("The job would be accepted.").classes("notice good")
    for refusal in found.refusals:
        with ui.element("div").classes("notice bad"):
            ui.label(refusal.message)
            if refusal.hint:
                ui.label(refusal.hint).classes("small")
    for warning in found.warnings:
        ui.label(warning).classes("notice warn")
    for title, estimate, write in (
        ("Time", found.time_s, show.duration),
        ("Memory", found.memory_bytes, show.size),
        ("Cost", found.cost_usd, show.dollars),
    ):
        if estimate is not None:
            _estimate(title, estimate, write)
    if (data := found.data) is not None:
        show.facts(
            [
                (
                    "rows",
                    f"{data.rows:,}: {data.train_rows:,} to train on, {data.validation_rows:,} to validate on",
                ),
                ("steps", f"{data.steps:,} of {data.rows_per_step:,} rows"),
                ("tokens a pass", f"{data.tokens:,} ({data.tokens_basis})"),
            ]
        )
    for one in found.effective:
        applied = (
            f"{one.field}: {training_fields.written(one.applied)}, not {training_fields.written(one.asked)}"
        )
        ui.label(f"{applied}: {one.reason}.").classes("small soft wrap")


def _estimate(title: str, estimate: Estimate, write: Any) -> None:
    with ui.element("div").classes("tile"):
        ui.label(title).classes("tile-label")
        ui.label(f"{write(estimate.low)} to {write(estimate.high)}").classes("tile-value")
        ui.label(f"expected {write(estimate.expected)}; {estimate.basis}").classes("small soft wrap")
