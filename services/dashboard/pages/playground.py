"""The playground: one question, every arm answers at once; a vote, and a way into the evaluation set."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import urlencode

from nicegui import ui

from model_training.client import Client
from model_training.contracts.comparisons import Prices
from model_training.contracts.files import FileObject, FilePurpose
from services.dashboard.answering import ArmAnswer, Run
from services.dashboard.app import Dashboard, View
from services.dashboard.layout import heading
from services.dashboard.parts import answers, choices, intervals, states
from services.dashboard.views.arm_figures import STATES, figures
from services.dashboard.views.evaluation_sets import SET, item_of, joined
from services.dashboard.views.highlight import highlight

PRICES = Prices()
MOST_ARMS = 8
LONGEST_QUESTION = 20_000


def register(dashboard: Dashboard) -> None:
    """`/playground`."""
    intervals.install()

    @dashboard.page("/playground", title="Playground")
    def playground(view: View, q: str = "", arms: str = "", run: str = "") -> None:
        Playground(view).draw(q[:LONGEST_QUESTION], [name for name in arms.split(",") if name], run)


class Playground:
    """The page in one browser."""

    def __init__(self, view: View) -> None:
        self.view = view

    def draw(self, question: str, arms: list[str], run_id: str) -> None:
        """Form and answers; `run_id` is a run to look at."""
        run = self.view.dashboard.runs.get(self.view.connection, run_id) if run_id else None
        with ui.element("section").classes("card"):
            self.question = ui.textarea("Question", value=run.question if run else question)
            self.question.props(f"outlined autogrow maxlength={LONGEST_QUESTION}").classes("w-full")
            self.question.on("keydown.ctrl.enter", self._ask)
            self.question.on("keydown.meta.enter", self._ask)
            chosen = [arm.model for arm in run.arms] if run else arms
            with ui.element("div").classes("fields"):
                self.arms = choices.arms(self.view, label="Arms that answer", value=chosen)
                self.tokens = ui.number(
                    "Longest answer", value=run.max_tokens if run else 200, min=1, max=4096, precision=0
                )
                self.tokens.props('outlined dense suffix="tokens"')
                self.temperature = ui.number(
                    "Temperature", value=run.temperature if run else 0.0, min=0, max=2, step=0.1
                )
                self.temperature.props("outlined dense")
                ui.button("Ask", icon="send", on_click=self._ask)
            ui.label(
                "Ctrl and Enter asks too. The address keeps question and arms, to be sent to somebody."
            ).classes("soft small")
        self.box = ui.element("div").classes("live")
        with self.box:
            if run is not None:
                self._show(run)
            elif run_id:
                states.empty(
                    "These answers are no longer kept.", "The question is above: ask again.", icon="history"
                )
            else:
                states.empty(
                    "Ask something.",
                    "With a tuned model and an index there are four arms: each alone, and both together.",
                    icon="forum",
                )

    async def _ask(self) -> None:
        question, models = str(self.question.value or "").strip(), list(self.arms.value or [])
        if not question or not models:
            ui.notify(
                "Write a question and choose an arm." if not question else "Choose an arm.", type="warning"
            )
            return
        if len(models) > MOST_ARMS:
            ui.notify(f"{len(models)} arms are too many; {MOST_ARMS} can answer at once.", type="warning")
            return
        run = self.view.dashboard.runs.start(
            self.view.connection,
            question,
            models,
            max_tokens=int(self.tokens.value or 200),
            temperature=float(self.temperature.value or 0.0),
        )
        query = {"q": question[:1500], "arms": ",".join(models), "run": run.id}
        ui.navigate.history.push(f"/playground?{urlencode(query)}")
        self.box.clear()
        with self.box:
            self._show(run)

    def _show(self, run: Run) -> None:
        with ui.element("div").classes("arms"):
            cards = [ArmCard(self.view, run, arm) for arm in run.arms]
        Collecting(self.view, run).draw()

        def changed(_: Run) -> None:
            for card in cards:
                card.update()

        self.view.on_gone(run.subscribe(changed))


class ArmCard:
    """One arm's answer: redrawn as it grows, marked against its sources once it is whole."""

    def __init__(self, view: View, run: Run, arm: ArmAnswer) -> None:
        self.view, self.run, self.arm = view, run, arm
        self._shown: tuple[str, str, str | None] | None = None
        self._is_marked = False
        with ui.element("section").classes("card") as self.card:
            self.card.props["aria-label"] = f"Answer of {choices.arm_name(arm.model)}"
            heading(choices.arm_name(arm.model), level=2)
            ui.label(arm.model).classes("soft small mono wrap")
            with ui.row().classes("items-center"):
                self.state = ui.label().classes("pill").props('role="status"')
                self.vote = ui.button("Best", icon="thumb_up", on_click=self._vote).props("flat dense")
                self.vote.props["aria-label"] = f"{choices.arm_name(arm.model)} answers best"
            self.said = ui.element("div").classes("w-full")
            with self.said:
                self.text = answers.answer("")
            self.figures = ui.label().classes("soft small num")
            self.sources = ui.element("div").classes("w-full")

    def update(self) -> None:
        """Show what is new."""
        arm = self.arm
        if self.card.is_deleted or self._shown == (arm.state, arm.text, self.run.vote):
            return
        self._shown = (arm.state, arm.text, self.run.vote)
        words, tone = STATES[arm.state]
        self.state.set_text(words)
        self.state.classes(replace=f"pill {tone}")
        self.vote.set_visibility(arm.state == "done")
        self.vote.props("color=positive" if self.run.vote == arm.model else "color=primary")
        self.vote.set_text("Your choice" if self.run.vote == arm.model else "Best")
        self.figures.set_text(figures(arm.first_s, arm.total_s, arm.usage, PRICES))
        if arm.state == "done" and not self._is_marked:
            self._mark()
        elif not self._is_marked:
            shown = arm.text or (
                f"{arm.error} {arm.hint}".strip() if arm.state in ("failed", "again") else ""
            )
            self.text.set_text(answers.visible(shown))

    def _mark(self) -> None:
        self._is_marked = True
        arm = self.arm
        if arm.sources:
            self.said.clear()
            passages = {int(source["number"]): str(source.get("text") or "") for source in arm.sources}
            with self.said:
                answers.spans(highlight(arm.text, passages))
            with self.sources:
                packing = arm.packing or {}
                used, left = len(packing.get("packed", [])), len(packing.get("dropped", []))
                ui.label(
                    f"{used} passages read, {left} found and left out; marked words stand in them"
                ).classes("soft small")
                answers.sources(arm.sources, arm.text)
        else:
            self.text.set_text(answers.visible(arm.text or "(nothing)"))
        if arm.finish == "length":
            with self.sources:
                ui.label("Cut: the longest answer was reached.").classes("soft small")

    async def _vote(self) -> None:
        run, arm = self.run, self.arm
        models = [one.model for one in run.arms]
        vote = await self.view.attempt(
            lambda client: client.votes.cast(run.question, models, arm.model),
            done="Noted.",
            refresh=("votes",),
        )
        if vote is not None:
            self.view.dashboard.runs.vote(self.view.connection, run, arm.model)


class Collecting:
    """Sending the question to the evaluation set, with the answer that counts as right."""

    def __init__(self, view: View, run: Run) -> None:
        self.view, self.run = view, run

    def draw(self) -> None:
        """The button, and what it opens."""
        with ui.expansion("Keep this question for evaluations", icon="playlist_add").classes("w-full card"):
            ui.label(
                f"It joins {SET}, a file of evaluation items: later evaluations and comparisons ask it too. "
                "Write the answer that is right."
            ).classes("soft small")
            self.reference = ui.textarea("The right answer").props("outlined autogrow").classes("w-full")
            with ui.row():
                ui.button("Add to the evaluation set", icon="playlist_add", on_click=self._send)
                for arm in self.run.arms:
                    button = ui.button(f"Take {choices.arm_name(arm.model)}'s answer").props("flat dense")
                    button.on_click(lambda _, one=arm: self.reference.set_value(one.text))

    async def _send(self) -> None:
        reference = str(self.reference.value or "").strip()
        if not reference:
            ui.notify("Write the right answer first.", type="warning")
            return
        item = item_of(self.run.question, reference)

        def send(client: Client) -> FileObject:
            files = client.files.list(purpose=FilePurpose.EVALUATION, limit=1000).data
            present = next((file for file in files if file.filename == SET), None)
            content = joined(client.files.content(present.id) if present else b"", item)
            with tempfile.TemporaryDirectory(prefix="mt-playground-") as folder:
                path = Path(folder) / SET
                path.write_bytes(content)
                return client.files.upload(path, FilePurpose.EVALUATION)

        made = await self.view.attempt(send, refresh=("choices/*", "files*"))
        if made is not None:
            ui.notify(f"Added. {SET} is {made.id} now.", type="positive")
