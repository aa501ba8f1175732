"""Choices that several forms offer: arms (models with and without an index), files of evaluation items."""

from __future__ import annotations

import json
from collections.abc import Iterable

from nicegui import ui

from model_training.client import Client
from model_training.contracts.files import FilePurpose
from model_training.contracts.indexes import Index
from model_training.contracts.jobs import JobState
from model_training.contracts.models import ModelObject
from services.dashboard.app import View
from services.dashboard.feeds import Snapshot

MOST_TUNED = 20
RAG = "rag:"


def arms(view: View, *, label: str, value: Iterable[str] = (), usual: bool = True) -> ui.select:
    """A choice of several arms. Without a value the usual four: base and tuned, each without and with passages."""
    asked = list(value)
    select = (
        ui.select(dict.fromkeys(asked, ""), label=label, value=asked, multiple=True)
        .props("use-chips outlined dense")
        .classes("wide")
    )
    select.set_options({name: name for name in asked}, value=asked)

    def changed(snapshot: Snapshot[tuple[list[ModelObject], list[Index]]]) -> None:
        if snapshot.value is None:
            return
        models, indexes = snapshot.value
        names = arm_models(models, indexes)
        chosen = [name for name in select.value or [] if name in names or name in asked]
        if not chosen and usual:
            chosen = usual_arms(models, indexes)
        select.set_options(
            {name: name for name in [*names, *(n for n in chosen if n not in names)]}, value=chosen
        )

    view.listen(view.feed("choices/arms", _ask, every_s=15.0), changed)
    return select


def _ask(client: Client) -> tuple[list[ModelObject], list[Index]]:
    return client.models.list().data, client.indexes.list(limit=100).data


def arm_models(models: Iterable[ModelObject], indexes: Iterable[Index]) -> list[str]:
    """Every model that can answer, and each behind every index that is ready: `rag:docs@gemma-3-270m`."""
    able = [model.id for model in models if model.state == "servable"][: MOST_TUNED * 2]
    names = list(dict.fromkeys(index.name for index in indexes if index.state is JobState.SUCCEEDED))
    return able + [f"{RAG}{name}@{model}" for name in names for model in able]


def usual_arms(models: Iterable[ModelObject], indexes: Iterable[Index]) -> list[str]:
    """Base and newest tuned model, each without and with the newest index; what of it there is."""
    able = [model for model in models if model.state == "servable"]
    tuned = next((model for model in able if model.root), None)
    base = tuned.root if tuned and tuned.root else next((model.id for model in able if not model.root), None)
    index = next((index.name for index in indexes if index.state is JobState.SUCCEEDED), None)
    found: list[str] = []
    for model in (base, tuned.id if tuned else None):
        if model:
            found += [model, *([f"{RAG}{index}@{model}"] if index else [])]
    return found


def arm_name(model: str) -> str:
    """A short name of an arm: base, retrieval, tuned, tuned+retrieval, with what tells two alike apart."""
    plain = model.rpartition("@")[2] if model.startswith(RAG) else model
    return (
        f"{plain}+{model.removeprefix(RAG).partition('@')[0]}"[:64] if model.startswith(RAG) else plain[:64]
    )


def evaluation_file(view: View, label: str = "File of evaluation items") -> ui.select:
    """A choice of an uploaded file of evaluation items; the newest is chosen."""
    select = ui.select({}, label=label).props("outlined dense")

    def changed(snapshot: Snapshot[dict[str, str]]) -> None:
        if snapshot.value is None:
            return
        options = snapshot.value
        keep = select.value if select.value in options else next(iter(options), None)
        select.set_options(options, value=keep)
        select.props["hint"] = "" if options else "There is none yet: upload one on the page Data."

    view.listen(view.feed("choices/evaluation", _files, every_s=15.0), changed)
    return select


def _files(client: Client) -> dict[str, str]:
    found = client.files.list(purpose=FilePurpose.EVALUATION, limit=100).data
    return {file.id: f"{file.filename} ({file.id})" for file in found}


def suites_of(client: Client, file_id: str) -> list[str]:
    """The suites that a file's items name, in their order."""
    names: dict[str, None] = {}
    for line in client.files.content(file_id).splitlines():
        if line.strip():
            names[str(json.loads(line).get("suite", ""))] = None
    return [name for name in names if name]
