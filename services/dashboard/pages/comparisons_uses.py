"""What the arms are worth in a use: pick one, move prices, and see break-even and recommendation follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nicegui import ui

from model_training.contracts.comparison_views import WhatIfReply
from model_training.contracts.comparisons import ComparisonReport, Prices, Profile, ProfileResult
from model_training.errors import UserError
from services.dashboard.app import View
from services.dashboard.layout import heading
from services.dashboard.parts import show, states
from services.dashboard.parts.intervals import Estimate, picture
from services.dashboard.views.scales import usd
from services.dashboard.views.uses import A_MONTH, MACHINE_HOUR_USD, WRONG_USD, nearest, pays, question


def draw(view: View, report: ComparisonReport, use: str) -> None:
    """The section; `use` is the name of the use to begin with."""
    if report.profiles:
        Uses(view, report, use).draw()


class Uses:
    """Sliders, and what they give. The last position asked for wins; one request is under way at a time."""

    def __init__(self, view: View, report: ComparisonReport, use: str) -> None:
        self.view = view
        self.report = report
        self.profiles = {found.profile.name: found.profile for found in report.profiles}
        self.use = use if use in self.profiles else next(iter(self.profiles))
        self.prices = Prices.model_validate(report.rules.get("prices") or {})
        self.sliders: dict[str, ui.slider] = {}
        self._asked = self._busy = False

    @property
    def profile(self) -> Profile:
        """The use that is looked at."""
        return self.profiles[self.use]

    def draw(self) -> None:
        """The whole section."""
        with ui.element("section").classes("card"):
            heading("What it is worth")
            with ui.element("div").classes("fields"):
                select = ui.select(list(self.profiles), label="Use", value=self.use).props("outlined dense")
                select.on_value_change(lambda event: self._choose(str(event.value)))
            self.words = ui.label(self.profile.description).classes("soft small wrap")
            with ui.element("div").classes("grid"):
                self._slider("machine", "An hour of the machine", MACHINE_HOUR_USD, usd)
                self._slider("wrong", "What a wrong answer costs", WRONG_USD, usd)
                self._slider("month", "Questions a month", A_MONTH, lambda value: f"{value:,.0f}")
            self.box = ui.element("div").classes("live").props('aria-live="polite"')
            with self.box:
                states.loading("Working it out")
        self._place()
        self.view.later(self._follow())

    def _slider(self, name: str, label: str, steps: Sequence[float], write: Callable[[float], str]) -> None:
        with ui.element("div"):
            with ui.row().classes("items-center justify-between"):
                ui.label(label).classes("small")
                value = ui.label("").classes("num small").style("font-weight:650")
            slider = ui.slider(min=0, max=len(steps) - 1, step=1, value=0).props("snap")
            slider.props["aria-label"] = label
            value.bind_text_from(slider, "value", lambda at: write(steps[int(at)]))

            def moved() -> None:
                value.set_text(write(steps[int(slider.value)]))
                self.view.later(self._follow())

            slider.on_value_change(moved)
        self.sliders[name] = slider

    def _place(self) -> None:
        """Put the sliders where the report's prices and the use have them."""
        profile = self.profile
        self.sliders["machine"].set_value(nearest(MACHINE_HOUR_USD, self.prices.machine_hour_usd))
        self.sliders["wrong"].set_value(nearest(WRONG_USD, profile.wrong_answer_usd))
        self.sliders["month"].set_value(nearest(A_MONTH, profile.questions_per_month))

    def _choose(self, use: str) -> None:
        self.use = use
        self.words.set_text(self.profile.description)
        self._place()
        path = f"/comparisons/{self.report.id}?use={use}"
        ui.navigate.history.replace(path)
        self.view.later(self._follow())

    async def _follow(self) -> None:
        """Ask for the present positions, and again if they have moved meanwhile."""
        self._asked = True
        if self._busy:
            return
        self._busy = True
        try:
            while self._asked:
                self._asked = False
                at = {name: int(slider.value) for name, slider in self.sliders.items()}
                request = question(self.prices, self.profile, **at)
                try:
                    reply = await self.view.call(
                        lambda c, r=request: c.comparisons.what_if(self.report.id, r)
                    )
                except UserError as error:
                    self.box.clear()
                    with self.box:
                        states.error(error)
                    continue
                if not self.box.is_deleted:
                    self.box.clear()
                    with self.box:
                        _outcome(reply)
        finally:
            self._busy = False


def _outcome(reply: WhatIfReply) -> None:
    for found in reply.profiles:
        _use(found)
    heading("When it has paid for itself", level=3)
    show.table(
        ["The arm", "against", "costs more at first", "saves for 1,000 questions", "has paid for itself"],
        [
            [
                found.b,
                found.a,
                usd(found.extra_fixed_usd),
                f"{usd(1000 * found.saving_usd)} [{_bound(found.saving_low)}, {_bound(found.saving_high)}]",
                pays(found),
            ]
            for found in reply.break_even
        ],
        numbers=(2, 3),
        label="Break-even of each pair of arms",
    )


def _bound(saving: float | None) -> str:
    return "unbounded" if saving is None else usd(1000 * saving)


def _use(found: ProfileResult) -> None:
    told = (
        f"Recommended for {found.profile.name}: {found.recommended}"
        if found.recommended
        else "Cannot tell yet here"
    )
    with ui.element("div").classes("notice " + ("good" if found.recommended else "warn")):
        ui.label(told).style("font-weight:650").classes("recommended")
        ui.label(found.words)
    picture(
        [
            Estimate(name, worth, None, None, usd(worth), "good" if name == found.recommended else "open")
            for name, worth in sorted(found.utility_usd.items(), key=lambda pair: -pair[1])
        ],
        tick=usd,
        label="What 1,000 questions are worth by arm",
        zero=True,
    )
    if found.stability is not None:
        ui.label(
            "With every value up to about a factor of four off, the choice stays the same in "
            f"{show.percent(found.stability)} of 500 draws."
        ).classes("soft small")
    with ui.element("ul").classes("plain-list small soft"):
        for flip in [*found.flips, *found.excluded.values()]:
            with ui.element("li"):
                ui.label(flip)
