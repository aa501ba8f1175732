"""One model from its data to its verdicts, with its gate, promotion and download; and two models beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from nicegui import app as nicegui_app
from nicegui import ui
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, RedirectResponse, Response

from model_training.client import ApiError, Client
from model_training.contracts.evaluations import Evaluation
from model_training.contracts.evaluations_gate import GateReply, GateRequest
from model_training.errors import UserError
from services.dashboard import training_fields
from services.dashboard.app import Dashboard, View, browser_id
from services.dashboard.layout import heading
from services.dashboard.lineage import Story, newest_done, story
from services.dashboard.pages.models import ask_reason
from services.dashboard.parts import show, states

REFRESHED = ("champion*", "models", "model:*")


def register(dashboard: Dashboard) -> None:
    """`/models/compare`, `/models/{model_id}` and the download of a model."""

    @dashboard.page("/models/compare", title="Two models")
    def compare(view: View, a: str = "", b: str = "") -> None:
        if not a or not b:
            states.empty("Two models are needed.", "Choose two on the page Models.", icon="compare_arrows")
            return
        view.live(f"two:{a}:{b}", lambda c: _two(c, a, b), _side_by_side, every_s=30)

    @dashboard.page("/models/{model_id}", title="Model")
    def model(view: View, model_id: str) -> None:
        view.live(
            f"model:{model_id}", lambda c: story(c, model_id), lambda found: _story(view, found), every_s=15
        )

    @nicegui_app.get("/download/models/{model_id}", include_in_schema=False)
    def download(model_id: str) -> Response:
        connection = dashboard.sessions.connection(browser_id())
        if connection is None:
            return RedirectResponse(f"/login?next={quote(f'/models/{model_id}')}")
        path = dashboard.shelf.folder / f"download-{model_id.replace('/', '_')[:80]}-{id(object())}.zip"
        try:
            connection.client.models.download(model_id, path)
        except UserError as error:
            path.unlink(missing_ok=True)
            return Response(
                str(error), error.status if isinstance(error, ApiError) else 502, media_type="text/plain"
            )
        gone = BackgroundTask(path.unlink, missing_ok=True)
        return FileResponse(path, media_type="application/zip", filename=f"{model_id}.zip", background=gone)


def _story(view: View, found: Story) -> None:
    model = found.model
    with ui.element("section").classes("card"):
        with ui.row().classes("items-center justify-between full"):
            with ui.row().classes("items-center"):
                ui.label(model.id).classes("h2 mono wrap")
                show.pill(model.state)()
                for alias in model.aliases:
                    show.pill(alias, "info")()
            _actions(view, found)
        show.facts([("base", model.root or "it is a base"), ("created", show.moment(model.created))])
        _gate(found.gate)
    with ui.element("section").classes("card"):
        heading("From data to verdict")
        with ui.element("ol").classes("chain"):
            for title, draw in _chain(found):
                with ui.element("li"):
                    ui.label(title).classes("state-title")
                    draw()
    with ui.element("div").classes("grid"):
        _facts_card("Measured", {name: show.number(value) for name, value in model.metrics.items()})
        _facts_card("Lineage", dict(_flat(model.lineage)))


def _actions(view: View, found: Story) -> None:
    model = found.model
    with ui.row():
        if "champion" not in model.aliases and model.state != "refused":
            ui.button("Promote", icon="emoji_events", on_click=lambda: _promote(view, model.id)).props(
                "unelevated"
            )
        if model.root is not None:
            fetch = ui.button("Download", icon="download").props("outline")
            fetch.on_click(lambda: ui.navigate.to(f"/download/models/{quote(model.id)}"))
            ui.button("Delete", icon="delete", on_click=lambda: _delete(view, model.id)).props(
                "outline color=negative"
            )


async def _promote(view: View, model_id: str) -> None:
    reason = await ask_reason(f"Let champion point at {model_id}?", "Promote")
    if reason is not None:
        await view.attempt(
            lambda c: c.models.promote(model_id, reason=reason), done="It is the champion.", refresh=REFRESHED
        )


async def _delete(view: View, model_id: str) -> None:
    with ui.dialog() as dialog, ui.card():
        ui.label(f"Forget {model_id}?").classes("h3 wrap")
        ui.label(
            "What was measured with it stays. The champion and models that a job needs are refused."
        ).classes("soft")
        with ui.row():
            ui.button("Forget it", on_click=lambda: dialog.submit(True)).props("unelevated color=negative")
            ui.button("Keep it", on_click=lambda: dialog.submit(False)).props("flat")
    if await dialog and await view.attempt(lambda c: c.models.delete(model_id), refresh=REFRESHED):
        ui.navigate.to("/models")
    dialog.delete()


def _gate(gate: dict[str, Any]) -> None:
    """Whether what is served is what was trained."""
    if not gate:
        ui.label("It has not been served yet; the gate looks at it then.").classes("soft")
        return
    passed = gate.get("passed", gate.get("verdict") == "passed")
    ui.label(f"Gate: {'passed' if passed else 'refused'}").classes(f"notice {'good' if passed else 'bad'}")
    show.facts(
        [
            (name.replace("_", " "), _written(value))
            for name, value in gate.items()
            if name not in ("passed", "verdict")
        ]
    )


def _chain(found: Story) -> Iterator[tuple[str, Any]]:
    file = found.job.training_file if found.job else None
    if file is not None:
        yield "Data", show.link(file, f"/data/{file}", mono=True)
    if found.job is not None:
        job = found.job
        yield (
            "Training",
            lambda: _line(show.link(job.id, f"/jobs/{job.id}", mono=True), show.pill(job.status.value)),
        )
    if found.model.artifact:
        yield "Artifact", lambda: ui.label(str(found.model.artifact)).classes("mono wrap small")
    for one in found.evaluations:
        yield "Evaluation", _evaluation_line(one)
    for one in found.comparisons:
        verdict = one.report.verdict.recommended if one.report else None
        words = f"recommends {verdict}" if verdict else one.state.value
        yield "Comparison", _linked_line(one.id, f"/comparisons/{one.id}", words)
    for move in found.reigns:
        yield f"Champion, version {move.version}", _moved_line(move.created_at, move.reason)
    if not found.evaluations and not found.comparisons:
        yield "Evaluation", lambda: ui.label("It was not evaluated yet.").classes("soft")


def _evaluation_line(one: Evaluation) -> Any:
    rates = ", ".join(f"{suite.suite} {show.percent(suite.pass_rate)}" for suite in one.suites)
    return _linked_line(one.id, f"/evaluations/{one.id}", rates or one.state.value)


def _linked_line(text: str, target: str, words: str) -> Any:
    return lambda: _line(show.link(text, target, mono=True), lambda: ui.label(words).classes("wrap"))


def _moved_line(at: Any, reason: str) -> Any:
    return lambda: _line(show.moment(at), lambda: ui.label(reason or "no reason was given").classes("wrap"))


def _line(*parts: Any) -> None:
    with ui.row().classes("items-center"):
        for part in parts:
            part()


def _facts_card(title: str, values: dict[str, str]) -> None:
    with ui.element("section").classes("card"):
        heading(title)
        if not values:
            ui.label("Nothing is known.").classes("soft")
        show.facts([(name, _written(value)) for name, value in values.items()])


def _written(value: Any) -> show.Cell:
    text = show.number(value) if isinstance(value, float) else training_fields.written(value)
    return lambda: ui.label(text).classes("wrap")


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values under dotted names, without the gate, which is shown apart."""
    for name, value in values.items():
        if isinstance(value, dict) and name != "gate":
            yield from _flat(value, f"{prefix}{name}.")
        elif name != "gate":
            yield f"{prefix}{name}", value


Two = tuple[Story, Story, GateReply | None, str]


def _two(client: Client, a: str, b: str) -> Two:
    """Both stories, and whether the second got worse than the first on the items that both were asked."""
    first, second = story(client, a), story(client, b)
    before, after = newest_done(first.evaluations), newest_done(second.evaluations)
    if before is None or after is None:
        return (
            first,
            second,
            None,
            "Both must have been evaluated before the gate can tell whether the second got worse.",
        )
    try:
        return first, second, client.evaluations.gate(after.id, GateRequest(baseline=before.id)), ""
    except ApiError as error:
        return first, second, None, error.message


def _side_by_side(found: Two) -> None:
    first, second, gate, why_not = found
    with ui.element("section").classes("card"):
        heading("Has it got worse?")
        if gate is None:
            ui.label(why_not).classes("soft wrap")
        else:
            _gate_reply(gate)
    with ui.element("section").classes("card"):
        heading("What differs")
        left, right = _everything(first), _everything(second)
        rows: list[list[show.Cell]] = [
            [name, _written(left.get(name)), _written(right.get(name))]
            for name in dict.fromkeys([*left, *right])
            if left.get(name) != right.get(name)
        ]
        show.table(["", first.model.id, second.model.id], rows, label="What differs between the models")


def _gate_reply(gate: GateReply) -> None:
    tone = {"no_fall": "good", "fell": "bad"}.get(gate.verdict, "warn")
    words = {
        "no_fall": "No: it did not fall.",
        "fell": "Yes, it fell.",
        "cannot_tell": "That cannot be told yet.",
    }
    ui.label(words[gate.verdict]).classes(f"notice {tone}")
    rows: list[list[show.Cell]] = [
        [
            one.suite,
            show.percent(one.baseline_rate),
            show.percent(one.rate),
            f"{100 * one.difference:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}] points",
            f"{len(one.wins)} won, {len(one.losses)} lost of {one.n}",
            one.reason,
        ]
        for one in gate.suites
    ]
    show.table(
        ["Suite", "Before", "After", "Difference [95%]", "Items", ""],
        rows,
        numbers=[1, 2, 3],
        label="Gate by suite",
    )


def _everything(one: Story) -> dict[str, Any]:
    measured = {f"measured: {name}": value for name, value in one.model.metrics.items()}
    return {"base": one.model.root, "state": one.model.state, **measured, **dict(_flat(one.model.lineage))}
