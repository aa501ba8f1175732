"""Trainings: all runs, and two or more of them laid over each other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from nicegui import ui

from model_training.client import Client
from model_training.contracts.base import Page
from model_training.contracts.fine_tuning import FineTuningJob
from services.dashboard.app import Dashboard, View
from services.dashboard.feeds import Snapshot
from services.dashboard.jobwatch import JobWatch
from services.dashboard.layout import heading
from services.dashboard.parts import show, states
from services.dashboard.parts.run_chart import RunChart

MOST_RUNS = 6
"""Runs over each other at most: as many as there are colours."""
COLUMNS = [
    {"name": "id", "label": "Run", "field": "id", "align": "left", "sortable": True},
    {"name": "state", "label": "State", "field": "state", "align": "left", "sortable": True},
    {"name": "model", "label": "Model", "field": "model", "align": "left", "sortable": True},
    {"name": "progress", "label": "Progress", "field": "progress", "sortable": True},
    {"name": "loss", "label": "Loss", "field": "loss", "sortable": True},
    {"name": "eval_loss", "label": "Validation loss", "field": "eval_loss", "sortable": True},
    {"name": "begun", "label": "Begun", "field": "begun", "sortable": True, "align": "left"},
]


def register(dashboard: Dashboard) -> None:
    """`/train` and `/train/overlay`."""

    @dashboard.page("/train", title="Train")
    def train(view: View) -> None:
        with ui.row().classes("items-center"):
            ui.button("New training", icon="add", on_click=lambda: ui.navigate.to("/train/new")).props(
                "unelevated"
            )
            lay = ui.button("Lay over each other", icon="stacked_line_chart").props("outline")
        _runs(view, lay)

    @dashboard.page("/train/overlay", title="Runs over each other")
    def overlay(view: View, jobs: str = "", metric: str = "loss") -> None:
        ids = [one for one in dict.fromkeys(jobs.split(",")) if one][:MOST_RUNS]
        if not ids:
            states.empty("No run is chosen.", "Choose runs on the page Train.", icon="stacked_line_chart")
            return
        _overlay(view, ids, metric)


def _runs(view: View, lay: ui.button) -> None:
    box = ui.element("div").classes("live")
    table = ui.table(
        columns=COLUMNS, rows=[], row_key="id", selection="multiple", pagination={"rowsPerPage": 20}
    ).classes("full")
    table.props('flat dense wrap-cells :rows-per-page-options="[20, 50, 100]"')
    show.name_selection(table)
    table.add_slot("body-cell-id", show.link_slot("/jobs/"))
    table.add_slot("body-cell-begun", show.TIME_SLOT)
    lay.on_click(
        lambda: ui.navigate.to(f"/train/overlay?jobs={','.join(row['id'] for row in table.selected)}")
    )
    table.on("selection", lambda _: lay.set_enabled(1 < len(table.selected) <= MOST_RUNS))
    lay.set_enabled(False)

    def changed(snapshot: Snapshot[Page[FineTuningJob]]) -> None:
        box.clear()
        with box:
            if snapshot.value is None and snapshot.error is not None:
                states.error(snapshot.error)
            elif snapshot.value is not None and not snapshot.value.data:
                states.empty("Nothing was trained yet.", "Begin with New training, or learn a library on the page Data.",
                             icon="model_training")  # fmt: skip
        rows = [_row(job) for job in snapshot.value.data] if snapshot.value is not None else []
        table.set_visibility(bool(rows))
        if rows != table.rows:
            table.rows = rows

    view.listen(view.feed("trainings", lambda c: c.fine_tuning.list(limit=100)), changed)


def _row(job: FineTuningJob) -> dict[str, Any]:
    metrics = job.metrics
    return {
        "id": job.id,
        "state": job.status.value.replace("_", " "),
        "model": job.model,
        "progress": f"{job.progress.fraction:.0%}",
        "loss": _rounded(metrics.get("train_loss", metrics.get("loss"))),
        "eval_loss": _rounded(metrics.get("eval_loss")),
        "begun": _iso(job.created_at),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _overlay(view: View, ids: list[str], metric: str) -> None:
    watches: dict[str, JobWatch] = {}
    chosen = (
        ui.select([metric], value=metric, label="Metric")
        .props("dense outlined options-dense")
        .style("min-width: 220px")
    )
    holder = ui.element("section").classes("card")
    parts: dict[str, RunChart] = {}

    def redraw() -> None:
        runs = [(job_id, watches[job_id].curves) for job_id in ids if job_id in watches]
        names = sorted({name for _, curves in runs for name in curves.by_name} | {str(chosen.value)})
        if names != chosen.options:
            chosen.set_options(names, value=chosen.value)
        parts["chart"].show(runs)

    def choose() -> None:
        holder.clear()
        with holder:
            heading(str(chosen.value))
            parts["chart"] = RunChart([(str(chosen.value), "", False)])
        redraw()
        ui.navigate.history.replace(f"/train/overlay?jobs={','.join(ids)}&metric={chosen.value}")

    def changed(watch: JobWatch) -> None:
        watches[watch.job_id] = watch
        redraw()

    with holder:
        heading(metric)
        parts["chart"] = RunChart([(metric, "", False)])
    for job_id in ids:
        view.watch(job_id, changed)
    chosen.on_value_change(choose)
    with ui.element("section").classes("card"):
        heading("What differs")
        view.live(
            f"overlay:{','.join(ids)}",
            lambda c: _configs(c, ids),
            lambda found: _differences(ids, found),
            every_s=10,
        )


def _configs(client: Client, ids: list[str]) -> dict[str, dict[str, Any]]:
    """Settings and last measured values of each run."""
    found: dict[str, dict[str, Any]] = {}
    for job_id in ids:
        job = client.jobs.get(job_id)
        measured = (job.result or {}).get("metrics", {})
        found[job_id] = {
            "state": job.state.value,
            **job.spec.get("config", {}),
            **{f"→ {k}": v for k, v in measured.items()},
        }
    return found


def _differences(ids: list[str], found: dict[str, dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    rows: list[list[show.Cell]] = []
    for name in names:
        values = [found[job_id].get(name) for job_id in ids]
        if any(value != values[0] for value in values):
            rows.append([name, *(_cell(value) for value in values)])
    if not rows:
        ui.label("Nothing: the runs have the same settings and results.").classes("soft")
        return
    heads = [show.link(job_id, f"/jobs/{job_id}", mono=True) for job_id in ids]
    show.table(["", *ids], rows, numbers=range(1, len(ids) + 1), label="What differs")
    with ui.row():
        for head in heads:
            head()


def _cell(value: Any) -> str:
    return (
        show.number(value)
        if isinstance(value, int | float) and not isinstance(value, bool)
        else str(value if value is not None else "–")
    )
