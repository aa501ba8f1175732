"""How well an index finds, on the questions of a file; choosing how it is searched by measurement."""

from __future__ import annotations

from nicegui import ui

from model_training.client import Client
from model_training.contracts.indexes import Index
from model_training.contracts.retrieval import Estimate as Measured
from model_training.contracts.retrieval import RetrievalReport, SearchOptions, TuneReport
from services.dashboard.app import View
from services.dashboard.layout import heading
from services.dashboard.parts import choices, show, states
from services.dashboard.parts.intervals import Estimate, picture
from services.dashboard.views.legs import LEGS, NAMES, described, labelled

K = 5
METRICS = {"ndcg": "nDCG", "recall": "recall", "mrr": "MRR"}


def draw(view: View, index: Index) -> None:
    """The section."""
    with ui.element("section").classes("card"):
        heading("How well it finds")
        ui.label(
            "Each evaluation item asks about one function; a passage about it should be found. Tuning chooses on half "
            "of the "
            "questions and judges on the other half."
        ).classes("soft small")
        with ui.element("div").classes("fields"):
            file = choices.evaluation_file(view)
            metric = ui.select(METRICS, label="Measured by", value="ndcg").props("outlined dense")
            measure = ui.button("Measure", icon="straighten").props("outline")
            tune = ui.button("Tune", icon="tune")
        box = ui.element("div").classes("live").props('aria-live="polite"')

    async def run(what: str) -> None:
        if not file.value:
            ui.notify("Choose a file of evaluation items.", type="warning")
            return
        box.clear()
        with box:
            states.loading("Asking every question; this takes some seconds")
        ask = _measured if what == "measure" else _tuned
        found = await view.attempt(
            lambda client: ask(client, index.id, str(file.value), str(metric.value)), refresh=("indexes",)
        )
        if box.is_deleted:
            return
        box.clear()
        with box:
            if isinstance(found, TuneReport):
                _tuning(found)
            elif found is not None:
                _measuring(found)

    measure.on_click(lambda: run("measure"))
    tune.on_click(lambda: run("tune"))


def _measured(client: Client, index: str, file: str, metric: str) -> dict[str, RetrievalReport]:
    questions = labelled(client.files.content(file))
    return {
        leg: client.indexes.evaluate(index, questions, k=K, options=SearchOptions(mode=leg)) for leg in LEGS
    }


def _tuned(client: Client, index: str, file: str, metric: str) -> TuneReport:
    questions = labelled(client.files.content(file))
    return client.indexes.tune(index, questions, k=K, metric=metric)  # type: ignore[arg-type]


def _measuring(found: dict[str, RetrievalReport]) -> None:
    picture(
        [_estimate(NAMES[leg], found[leg].overall.ndcg) for leg in LEGS],
        tick=lambda value: f"{value:g}",
        label=f"nDCG@{K} of each leg",
    )
    report = found["hybrid"]
    show.table(
        [
            "Kind of question",
            "Questions",
            *(f"recall@{k}" for k in report.overall.recall),
            f"MRR@{K}",
            f"nDCG@{K}",
        ],
        [
            [
                kind,
                f"{m.questions:,}",
                *(_words(one) for one in m.recall.values()),
                _words(m.mrr),
                _words(m.ndcg),
            ]
            for kind, m in {"all": report.overall, **report.by_kind}.items()
        ],
        numbers=tuple(range(1, 4 + len(report.overall.recall))),
        label="Figures of the merged search by kind of question",
    )
    if report.misses:
        ui.label(f"Not found among the best {K}: {', '.join(report.misses[:20])}").classes("soft small wrap")


def _tuning(found: TuneReport) -> None:
    ui.label(found.reason).classes("notice" if found.difference.low > 0 else "notice warn")
    name = METRICS[found.metric]
    picture(
        [_estimate("default", found.default), _estimate("tuned", found.tuned)],
        tick=lambda value: f"{value:g}",
        label=f"{name}@{found.k} on the {found.held_out} questions that did not choose",
    )
    show.facts(
        [
            ("Chosen", described(found.chosen)),
            ("Tuned less default", _words(found.difference)),
            ("Tried", f"{found.tried} ways"),
            ("Judged on", f"{found.held_out} questions"),
            ("Kept as the index's default", "yes" if found.stored else "no"),
        ]
    )
    show.table(
        ["The best on the half that chose", name],
        [
            [
                described(SearchOptions.model_validate({k: v for k, v in way.items() if k != found.metric})),
                float(way[found.metric]),
            ]
            for way in found.best
            if found.metric in way
        ],
        numbers=(1,),
        label="The best ways to search that were tried",
    )


def _estimate(name: str, found: Measured) -> Estimate:
    return Estimate(name, found.estimate, found.low, found.high, _words(found))


def _words(found: Measured) -> str:
    return f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"
