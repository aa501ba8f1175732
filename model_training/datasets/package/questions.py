"""Evaluation items of one package: executable tasks from what is held out, and questions about the documentation."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from model_training.contracts.evaluations import CallCheck, EvaluationItem, TextCheck
from model_training.datasets.package.docstrings import is_wish, need
from model_training.datasets.package.records import Example, Function, Package, Parameter
from model_training.datasets.package.selection import Chosen, Selection
from model_training.datasets.package.wording import (
    EVALUATION,
    ORDINALS,
    Told,
    home_of,
    tell,
)

CODE_FORMS = ("write_call", "fit_need", "find_arguments", "fit_need", "write_call", "use_object")
QA_SHARES = {
    "which_function": 0.35,
    "what_does": 0.22,
    "default_value": 0.2,
    "parameter_name": 0.18,
    "which_module": 0.05,
}
"""How the questions about documentation are shared out between forms, as far as functions have such facts."""


def code_items(selection: Selection) -> list[EvaluationItem]:
    """One executable task for each held-out example; forms take turns where they fit."""
    return [_code_item(selection, turn, *one) for turn, one in enumerate(selection.held)]


def _code_item(selection: Selection, turn: int, chosen: Chosen, example: Example) -> EvaluationItem:
    told = tell(example, chosen.function)
    assert told is not None  # only such examples are held out
    forms = (CODE_FORMS[(turn + shift) % len(CODE_FORMS)] for shift in range(len(CODE_FORMS)))
    form = next(form for form in forms if fits(form, chosen, told))
    return EvaluationItem(
        id=f"{chosen.function.qualified}-{digest(example.key)}",
        suite="code_generation",
        form=form,
        question=code_question(EVALUATION[form], turn, chosen, example, told),
        answer=example.expression,
        group=chosen.function.qualified,
        check=call_check(selection.package, chosen.function, example, form),
        source=example.source,
    )


def fits(form: str, chosen: Chosen, told: Told) -> bool:
    """Whether a question of this form can be asked."""
    if (form == "use_object") != (chosen.function.kind == "class"):
        return False
    if form == "use_object":
        return told.member is not None
    if form == "fit_need":
        return chosen.summary is not None and is_wish(chosen.summary)
    if form == "find_arguments":
        return told.first is not None and told.guessable
    return True


def code_question(templates: tuple[str, ...], turn: int, chosen: Chosen, example: Example, told: Told) -> str:
    """A question with the call told in words."""
    function = chosen.function
    return templates[turn % len(templates)].format(
        name=function.name, home=home_of(function), values=told.values, first=told.first, member=told.member,
        value=example.value, need=need(chosen.summary or ""),
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
    # A class is made by its constructor, which a tracer of functions may not see; any call of the package will do.
    named = form != "fit_need" and function.kind == "function"
    return CallCheck(
        package=package.name, imports=[*imports, *example.imports], expected=example.value,
        must_call=function.qualified if named else None,
    )  # fmt: skip


def qa_items(selection: Selection, count: int) -> list[EvaluationItem]:
    """Up to `count` questions about the functions: one each in turn, of the form that is furthest behind its share."""
    items: list[EvaluationItem] = []
    used: Counter[str] = Counter()
    asked: set[tuple[str, str, str]] = set()
    askable = [one for one in selection.functions if one.summary]
    # Functions with tasks get two questions before others get one: what is trained shall be what is asked.
    turns = [
        *[one for one in askable if one.held] * 2,
        *[one for one in askable if not one.held],
        *askable * 3,
    ]
    for chosen in turns:
        item = _next_question(selection, chosen, used, asked) if len(items) < count else None
        if item is not None:
            items.append(item)
    return items


def _next_question(
    selection: Selection, chosen: Chosen, used: Counter[str], asked: set[tuple[str, str, str]]
) -> EvaluationItem | None:
    function = chosen.function
    for form in sorted(QA_SHARES, key=lambda form: (used[form] + 1) / QA_SHARES[form]):
        for fact in facts(selection, chosen, form):
            if (function.qualified, form, fact.answer) in asked:
                continue
            asked.add((function.qualified, form, fact.answer))
            question = EVALUATION[form][used[form] % len(EVALUATION[form])].format(**fact.words)
            used[form] += 1
            return EvaluationItem(
                id=f"{function.qualified}-{form}-{digest(question)}",
                suite="qa_accuracy",
                form=form,
                question=question,
                answer=fact.answer,
                group=function.qualified,
                check=TextCheck(metric="f1" if form == "what_does" else "exact", accept=list(fact.accept)),
                source=function.source,
            )
    return None


@dataclass(frozen=True)
class Fact:
    """Something that the documentation says: the words of a question about it, and its answers."""

    words: dict[str, str]
    answer: str
    accept: tuple[str, ...] = ()


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
            yield Fact({**words, "ordinal": ordinal}, one.name, (str(one),))


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
    """`None` is left out: it is what one would guess, and so tells nothing about what a model knows."""
    return one.default not in {None, "...", "None"} and len(one.default or "") < 30


def digest(text: str) -> str:
    """Eight characters that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
