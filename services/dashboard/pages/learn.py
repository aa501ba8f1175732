"""Learn my library, step by step: which packages, how much of them, and off it goes; at its end stands a verdict."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.metadata import packages_distributions
from typing import Any

from nicegui import ui

from model_training.config.catalogue import CATALOGUE
from model_training.datasets.package.records import Options
from model_training.errors import UserError
from services.dashboard import learning
from services.dashboard.app import Dashboard, View
from services.dashboard.layout import heading
from services.dashboard.learning import Build
from services.dashboard.parts import job_parts, show, states

DEFAULT_MODEL = "gemma-3-270m"


def register(dashboard: Dashboard) -> None:
    """`/data/learn`."""

    @dashboard.page("/data/learn", title="Learn a library")
    def learn(view: View, build: str = "") -> None:
        if dashboard.sessions.needs_login:
            states.empty(
                "Libraries are learnt where they are installed, and this dashboard serves others too.",
                "On your machine: mt dataset from-package yourlib -o data/yourlib, then upload the files here.",
                icon="school",
            )
            return
        found = dashboard.builds.get(build)
        if found is None:
            _choose(view)
        else:
            _Progress(view, found)


@cache
def _installed() -> list[str]:
    return sorted(name for name in packages_distributions() if not name.startswith("_") and "/" not in name)


async def _offer(packages: ui.select) -> None:
    """Looking through everything that is installed takes a second: not in the way of other pages."""
    packages.set_options(await asyncio.to_thread(_installed), value=packages.value)


def _choose(view: View) -> None:
    defaults = Options()
    with ui.element("section").classes("card"):
        heading("1. Which library?")
        ui.label("Packages that are installed beside the platform, by the name that code imports.").classes(
            "soft"
        )
        packages = ui.select([], label="Packages", multiple=True, with_input=True).props("outlined use-chips")
        packages.classes("full")
        view.later(_offer(packages))
    with ui.element("section").classes("card"):
        heading("2. How much?")
        with ui.element("div").classes("form-grid"):
            rows = ui.number("Training rows at most", value=defaults.rows, min=20, max=100_000, step=1).props(
                "outlined dense"
            )
            tasks = ui.number(
                "Tasks that run code, at most", value=defaults.tasks, min=5, max=5000, step=1
            ).props("outlined dense")
            questions = ui.number(
                "Questions at most", value=defaults.questions, min=5, max=5000, step=1
            ).props("outlined dense")
            seed = ui.number("Seed: another one holds out other examples", value=0, min=0, step=1).props(
                "outlined dense"
            )
        ui.label("These sizes take about ten minutes on two cores; more items make a surer verdict.").classes(
            "small soft"
        )

    def begin() -> None:
        names = [str(name) for name in packages.value or []]
        try:
            if not names:
                raise UserError("No package is chosen.", hint="Choose at least one.")
            sizes = [int(str(one.value).partition(".")[0]) for one in (tasks, questions, rows, seed)]
            options = Options(*sizes)
        except UserError as error:
            view.notify_error(error)
            return
        except ValueError:
            view.notify_error(UserError("Every number must be filled in."))
            return
        made = view.dashboard.builds.start(names, options)
        ui.navigate.to(f"/data/learn?build={made.id}")

    ui.button("Build the data set", icon="construction", on_click=begin).props("unelevated").classes(
        "self-start"
    )


class _Progress:
    """A build under way, and what can be done with it when it is there."""

    def __init__(self, view: View, build: Build) -> None:
        self._view = view
        self._build = build
        with ui.element("section").classes("card"):
            heading(f"Data set of {', '.join(build.packages)}")
            self._box = ui.element("div").classes("live")
        self._told = view.inside(self._show)
        build.listeners.append(self._told)
        view.on_gone(lambda: build.listeners.remove(self._told))
        self._drawn_over = False
        self._show()

    def _show(self) -> None:
        if self._drawn_over:
            return
        self._drawn_over = self._build.is_over
        self._box.clear()
        with self._box:
            for step, (done, total) in self._build.steps.items():
                ui.label(f"{step} {done:,} of {total:,}").classes("small num")
                job_parts.bar(done / total if total else 1.0, step)
            if self._build.error is not None:
                states.error(self._build.error)
                show.link("Choose again", "/data/learn")()
            elif self._build.report is None:
                states.loading("Reading, running and sorting the library's own examples")
            else:
                self._result(self._build.report)

    def _result(self, report: dict[str, Any]) -> None:
        sizes = (
            ("training rows", "rows"),
            ("tasks that run code", "tasks"),
            ("questions", "questions"),
            ("passages", "chunks"),
        )
        show.tiles([(name, f"{report[key]:,}") for name, key in sizes])
        for note in report.get("notes") or ():
            ui.label(str(note)).classes("notice warn")
        if self._build.pipeline is not None:
            show.link("It is under way", f"/jobs/{self._build.pipeline}")()
            return
        heading("3. Train and compare", level=3)
        with ui.element("div").classes("form-grid"):
            model = ui.select(list(CATALOGUE), value=DEFAULT_MODEL, label="Model to tune").props(
                "outlined dense"
            )
            epochs = ui.number("Passes over the rows", value=2, min=1, max=100, step=1).props(
                "outlined dense"
            )
        ui.label("Index, training, then base, retrieval, tuned, and both, on the same questions.").classes(
            "soft"
        )

        async def start() -> None:
            button.set_enabled(False)
            job = await self._view.attempt(
                lambda c: learning.submit(c, self._build, str(model.value), int(epochs.value or 1)),
                refresh=("jobs", "trainings", "files*"),
            )
            if job is None:
                button.set_enabled(True)
            else:
                ui.navigate.to(f"/jobs/{job}")

        button = (
            ui.button("Start", icon="play_arrow", on_click=start).props("unelevated").classes("self-start")
        )
