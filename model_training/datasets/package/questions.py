"""Evaluation items of one package: executable tasks from what is held out, and questions about the documentation."""

from __future__ import annotations

import builtins
import hashlib
import re
from collections.abc import Iterator

from model_training.contracts.evaluations import CallCheck, EvaluationItem, TextCheck
from model_training.contracts.indexes import Source
from model_training.datasets.package.docstrings import need
from model_training.datasets.package.records import Example, Function, Package, Parameter
from model_training.datasets.package.selection import Chosen, Selection
from model_training.datasets.package.wording import (
    EVALUATION,
    ORDINALS,
    Told,
    home_of,
    tell,
)

CODE_FORMS = ("write_call", "fit_need", "find_arguments", "write_call", "fit_need")
QA_FORMS = (
    "which_function",
    "what_does",
    "default_value",
    "which_function",
    "parameter_name",
    "what_does",
    "which_module",
)


def code_items(selection: Selection) -> list[EvaluationItem]:
    """One executable task for each held-out example; forms take turns where they fit."""
    items: list[EvaluationItem] = []
    for index, (chosen, example) in enumerate(selection.held):
        told = tell(example, chosen.function)
        assert told is not None  # only such examples are held out
        form = next(
            form for shift in range(len(CODE_FORMS))
            if fits(form := CODE_FORMS[(index + shift) % len(CODE_FORMS)], chosen, told)
        )  # fmt: skip
        question = code_question(EVALUATION[form], index, chosen, example, told)
        items.append(
            EvaluationItem(
                id=f"{chosen.function.qualified}-{digest(example.key)}",
                suite="code_generation",
                form=form,
                question=question,
                answer=example.expression,
                group=chosen.function.qualified,
                check=call_check(selection.package, chosen.function, example, form),
                source=example.source,
            )  # fmt: skip
        )
    return items


def fits(form: str, chosen: Chosen, told: Told) -> bool:
    """Whether a question of this form can be asked."""
    if form == "fit_need":
        return chosen.summary is not None and not chosen.summary.lower().startswith(("a ", "an ", "the "))
    if form == "find_arguments":
        return told.first is not None and told.count >= 2
    return True


def code_question(templates: tuple[str, ...], turn: int, chosen: Chosen, example: Example, told: Told) -> str:
    """A question with the call told in words."""
    function = chosen.function
    return templates[turn % len(templates)].format(
        name=function.name, home=home_of(function), values=told.values, first=told.first, value=example.value,
        need=need(chosen.summary or ""),
    )  # fmt: skip


def call_check(package: Package, function: Function, example: Example, form: str) -> CallCheck:
    """How an answer is checked: qualified, module-qualified and bare names all work in it."""
    module = package.modules[function.module]
    head = f"import {function.module}"
    imports = [head, function.own_import]
    if "." in function.module:
        parent, _, last = function.module.rpartition(".")
        imports.insert(1, f"from {parent} import {last}")
    if module.star_safe:
        imports.insert(-1, f"from {function.module} import *")
    named = form != "fit_need"
    return CallCheck(
        package=package.name, imports=[*imports, *example.imports], expected=example.value,
        must_call=function.qualified if named else None,
    )  # fmt: skip


def qa_items(selection: Selection, count: int) -> list[EvaluationItem]:
    """Up to `count` questions about the functions, one each in turn, forms taking turns where they fit."""
    items: list[EvaluationItem] = []
    asked: set[str] = set()
    askable = [one for one in selection.functions if one.summary]
    for turn in range(len(QA_FORMS)):
        for index, chosen in enumerate(askable):
            if len(items) >= count:
                return items
            item = _qa_item(selection, chosen, turn + index, asked)
            if item is not None:
                asked.add(item.question)
                items.append(item)
        if turn >= 1 and not any(one.summary for one in askable):
            break
    return items


def _qa_item(selection: Selection, chosen: Chosen, turn: int, asked: set[str]) -> EvaluationItem | None:
    for shift in range(len(QA_FORMS)):
        form = QA_FORMS[(turn + shift) % len(QA_FORMS)]
        for fact in facts(selection, chosen, form):
            question = EVALUATION[form][turn % len(EVALUATION[form])].format(**fact.words)
            if question in asked or any(one.startswith(fact.topic) for one in asked):
                continue
            function = chosen.function
            return EvaluationItem(
                id=f"{function.qualified}-{form}-{digest(question)}", suite="qa_accuracy", form=form, question=question,
                answer=fact.answer, group=function.qualified,
                check=TextCheck(metric="f1" if form == "what_does" else "exact", accept=list(fact.accept)),
                source=Source(**{**function.source.model_dump(), "kind": "docstring"}),
            )  # fmt: skip
    return None


class Fact:
    """Something that the documentation says: the words of a question about it, and its answers."""

    def __init__(self, words: dict[str, str], answer: str, accept: tuple[str, ...] = ()) -> None:
        self.words = words
        self.answer = answer
        self.accept = accept
        self.topic = "\0"


def facts(selection: Selection, chosen: Chosen, form: str) -> Iterator[Fact]:
    """Facts of a function that a question of this form can ask for."""
    function = chosen.function
    words = {"name": function.name, "home": home_of(function), "package": function.package}
    if form == "which_function" and chosen.summary and _can_be_found(chosen, selection):
        yield Fact({**words, "need": need(chosen.summary)}, function.name, _names(function))
    if form == "what_does" and chosen.summary:
        yield Fact(words, chosen.summary)
    if form == "which_module" and function.module != function.package:
        last = function.module.rpartition(".")[2]
        yield Fact(words, function.module, (last, f"from {function.module} import {function.name}"))
    ordinary = [one for one in function.parameters or () if one.kind != "VAR_KEYWORD"]
    if form == "default_value":
        for one in ordinary:
            if _has_plain_default(one):
                yield Fact(
                    {**words, "parameter": one.name}, one.default or "", (f"{one.name}={one.default}",)
                )
    if form == "parameter_name":
        for ordinal, one in list(zip(ORDINALS, ordinary, strict=False))[1:3]:
            yield Fact({**words, "ordinal": ordinal}, one.name, (str(one), f"*{one.name}"))


def _names(function: Function) -> tuple[str, ...]:
    return (function.qualified, f"{function.name}()", f"{function.qualified}()")


def _can_be_found(chosen: Chosen, selection: Selection) -> bool:
    """Whether the summary names a need that only this function fills."""
    text = chosen.summary or ""
    if text.lower().startswith(("a ", "an ", "the ", "this ", "useful")) or re.search(
        r"\b(above|below)\b", text
    ):
        return False
    alike = [one for one in selection.functions if one.summary and one.summary.lower() == text.lower()]
    return len(alike) == 1 and chosen.function.name.lower() not in text.lower()


def _has_plain_default(one: Parameter) -> bool:
    return one.default not in {None, "..."} and len(one.default or "") < 30


def digest(text: str) -> str:
    """Eight characters that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def is_builtin(name: str) -> bool:
    """Whether a name is Python's own."""
    return hasattr(builtins, name)
