"""What the steps of a pipeline refer to, and in which order they can run. Pure: knows no files, models or jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, cast

from model_training.contracts.jobs import JobKind
from model_training.contracts.pipelines import RESULT_FIELDS, PipelineCreate, Step

MAX_DEPTH = 32
# Only these two words make a reference: a question about templates may hold other braces.
_REFERENCE = re.compile(r"\{\{\s*(steps|files)\b([^{}]*)\}\}")
_TAIL = re.compile(r"\.([a-z0-9][a-z0-9_-]*)(?:\.([a-z_]+))?\s*")
_INDEX_BY_NAME = re.compile(r"rag:([a-z0-9][a-z0-9_-]*)@")


class PipelineFault(ValueError):
    """The pipeline cannot run as it is written. `param` names the step and the field."""

    def __init__(self, message: str, param: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.hint = hint


@dataclass(frozen=True)
class Reference:
    """One reference in a text: `steps.<name>.<field>`, or `files.<name>` with no field."""

    text: str
    of_step: bool
    name: str
    field: str = ""


Lookup = Callable[[Reference], str]


def texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every text in a JSON value with its dotted place, `steps.train.body.suites.0.file` for example.

    Raises:
        PipelineFault: the value is nested too deeply.
    """
    if where.count(".") > MAX_DEPTH:
        raise PipelineFault(f"{where[:60]}… is nested more than {MAX_DEPTH} levels deep.", where[:60])
    match value:
        case str():
            yield where, value
        case dict():
            for key, item in cast("dict[str, Any]", value).items():
                yield from texts(item, f"{where}.{key.replace('.', '_')}")
        case list():
            for position, item in enumerate(cast("list[Any]", value)):
                yield from texts(item, f"{where}.{position}")
        case _:
            pass


def references(text: str, where: str) -> Iterator[Reference]:
    """The references in a text.

    Raises:
        PipelineFault: one of them has not the form of a reference.
    """
    for match in _REFERENCE.finditer(text):
        yield _parse(match, where)


def _parse(match: re.Match[str], where: str) -> Reference:
    of_step = match[1] == "steps"
    tail = _TAIL.fullmatch(match[2])
    if tail is None or of_step != (tail[2] is not None):
        raise PipelineFault(
            f"{where}: {match[0]!r} is not a reference.",
            where,
            "Write {{ steps.<step>.<field> }} or {{ files.<name> }}.",
        )
    return Reference(match[0], of_step, tail[1], tail[2] or "")


def substitute(value: Any, lookup: Lookup) -> Any:
    """The same JSON value with every reference replaced. It must have passed `plan`."""
    match value:
        case str():
            return _REFERENCE.sub(lambda match: lookup(_parse(match, "")), value)
        case dict():
            return {k: substitute(v, lookup) for k, v in cast("dict[str, Any]", value).items()}
        case list():
            return [substitute(item, lookup) for item in cast("list[Any]", value)]
        case _:
            return value


def lookup_in(files: Mapping[str, str], results: Mapping[str, Mapping[str, str]]) -> Lookup:
    """How references are resolved, given the files' ids and each finished step's result fields."""
    return lambda ref: results[ref.name][ref.field] if ref.of_step else files[ref.name]


def plan(request: PipelineCreate) -> dict[str, list[str]]:
    """Each step's dependencies, in an order in which the steps can run; independent steps keep the order of the request.

    A step depends on what `depends_on` names, on the steps that its body refers to, and on an index step whose index it
    searches by name (`rag:docs@…`).

    Raises:
        PipelineFault: a name is used twice or not known, or steps wait for each other.
    """
    steps = {step.name: step for step in request.steps}
    if len(steps) < len(request.steps):
        names = [step.name for step in request.steps]
        twice = next(name for name in names if names.count(name) > 1)
        raise PipelineFault(
            f"Two steps are named {twice!r}.", f"steps.{twice}.name", "Each step needs its own name."
        )
    needs = {step.name: _dependencies(step, steps, request.files) for step in request.steps}
    return {name: needs[name] for name in _order(needs)}


def _dependencies(step: Step, steps: Mapping[str, Step], files: Collection[str]) -> list[str]:
    place = f"steps.{step.name}"
    for name in step.depends_on:
        if name not in steps:
            raise _unknown(f"{place}.depends_on", "step", name, steps)
    found = dict.fromkeys(step.depends_on)
    indexes = {s.body.name: s.name for s in steps.values() if s.kind is JobKind.INDEX and s is not step}
    for where, text in texts(step.body.model_dump(mode="json"), f"{place}.body"):
        for reference in references(text, where):
            _check(reference, where, steps, files)
            if reference.of_step:
                found[reference.name] = None
        for match in _INDEX_BY_NAME.finditer(text):
            if match[1] in indexes:
                found[indexes[match[1]]] = None
    return list(found)


def _check(reference: Reference, where: str, steps: Mapping[str, Step], files: Collection[str]) -> None:
    if not reference.of_step:
        if reference.name not in files:
            raise _unknown(where, "file", reference.name, files)
        return
    if reference.name not in steps:
        raise _unknown(where, "step", reference.name, steps)
    kind = steps[reference.name].kind
    if reference.field not in RESULT_FIELDS[kind]:
        raise PipelineFault(
            f"{where}: step {reference.name!r} ({kind.value}) has no result {reference.field!r}.",
            where,
            f"It has: {', '.join(RESULT_FIELDS[kind])}.",
        )


def _unknown(where: str, what: str, name: str, known: Collection[str]) -> PipelineFault:
    return PipelineFault(
        f"{where}: there is no {what} named {name!r} in this pipeline.",
        where,
        f"There are: {', '.join(known)}." if known else None,
    )


def _order(needs: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Names so that each comes after what it needs, otherwise in the mapping's order."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        cycle: list[str] = list(reversed(error.args[1]))
        raise PipelineFault(
            f"Steps wait for each other: {' needs '.join(cycle)}.",
            f"steps.{cycle[0]}.depends_on",
            "Take one of these dependencies out.",
        ) from error
    waiting = dict(needs)
    while waiting:
        ready = next(name for name, needed in waiting.items() if not waiting.keys() & set(needed))
        del waiting[ready]
        yield ready
