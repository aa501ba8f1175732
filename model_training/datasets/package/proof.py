"""Turns candidates into examples: runs them, compares with what the source says, and varies those that hold."""

from __future__ import annotations

import ast
import doctest
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from model_training.datasets.package.calls import call_key
from model_training.datasets.package.examples import Mined
from model_training.datasets.package.probes import probe
from model_training.datasets.package.records import Candidate, Example, Package, Progress
from model_training.datasets.package.runner import Outcome, run_candidates
from model_training.datasets.package.variation import variations

VARIED_BASES = 3  # examples of one function that are varied
VARIED_EACH = 6  # variations of one of them


@dataclass
class Yield:
    """What one kind of source gave for one package."""

    seen: int = 0
    candidates: int = 0
    confirmed: int = 0
    functions: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])


@dataclass
class Proven:
    """All examples of a package that hold, in a fixed order, and the yield by kind of source."""

    examples: list[Example] = field(default_factory=list[Example])
    yields: dict[str, Yield] = field(default_factory=dict[str, Yield])


def prove(package: Package, mined: Sequence[Mined], seed: int, progress: Progress) -> Proven:
    """Run what was mined, then the variations of what held. Of equal calls the first stays."""
    proven = Proven()
    seen: set[tuple[str, str]] = set()
    for one in mined:
        outcomes = run_candidates(
            one.candidates, package, progress, f"{package.name}: run {one.kind} examples"
        )
        proven.yields[one.kind] = _keep(proven.examples, seen, one, outcomes)
    # In this order: what is made up for functions that nobody shows is varied like what is shown.
    for kind in ("probed_example", "varied_example"):
        made = (
            probe(package, proven.examples)
            if kind == "probed_example"
            else _vary(package, proven.examples, seed)
        )
        step = f"{package.name}: run {kind.replace('_', ' ')}s"
        outcomes = run_candidates(made.candidates, package, progress, step)
        proven.yields[kind] = _keep(proven.examples, seen, made, outcomes)
    return proven


def _keep(
    examples: list[Example], seen: set[tuple[str, str]], mined: Mined, outcomes: list[Outcome]
) -> Yield:
    result = Yield(seen=mined.seen, candidates=len(mined.candidates), dropped=Counter(mined.dropped))
    functions: set[str] = set()
    pairs = zip(mined.candidates, outcomes, strict=True)
    unsteady = {candidate.function for candidate, outcome in pairs if outcome.error == "unstable"}
    for candidate, outcome in zip(mined.candidates, outcomes, strict=True):
        reason = outcome.error or _mismatch(candidate, outcome.value or "")
        if reason is None and candidate.function in unsteady:
            reason = "function is unstable elsewhere"
        if reason is None and (candidate.function, candidate.key) in seen:
            reason = "same call again"
        if reason is not None or outcome.value is None:
            result.dropped[(reason or "no value").replace("_", " ")] += 1
            continue
        seen.add((candidate.function, candidate.key))
        functions.add(candidate.function)
        examples.append(
            Example(
                candidate.function,
                candidate.expression,
                candidate.imports,
                outcome.value,
                candidate.key,
                candidate.source,
            )
        )
    result.confirmed = sum(1 for example in examples if example.kind == mined.kind)
    result.functions = len(functions)
    return result


def _mismatch(candidate: Candidate, value: str) -> str | None:
    """Why the value is not what the source says; None if it is, or if the source says nothing."""
    if candidate.wanted is None:
        made_up = candidate.source.kind == "probed_example"
        return (
            "shows nothing"
            if made_up and value in {"None", "True", "False", "''", "[]", "{}", "()"}
            else None
        )
    form, text = candidate.wanted
    actual = ast.literal_eval(value)
    if actual is None:
        return "value is None"
    if form == "printed":
        return None if str(actual).split() == text.split() else "differs from its documentation"
    try:
        if ast.literal_eval(text.strip()) == actual:
            return None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    same = form == "repr" and doctest.OutputChecker().check_output(text + "\n", repr(actual) + "\n", flags)
    return None if same else "differs from its documentation"


def _vary(package: Package, examples: list[Example], seed: int) -> Mined:
    mined = Mined("varied_example")
    count: Counter[str] = Counter()
    for example in list(examples):
        if count[example.function] >= VARIED_BASES or not example.expression.isascii():
            continue
        count[example.function] += 1
        function = package.functions[example.function]
        source = example.source.model_copy(update={"kind": "varied_example"})
        for text in variations(example.expression, function.name, seed, VARIED_EACH):
            mined.seen += 1
            key = call_key(ast.parse(text, mode="eval").body, function.name, whole=function.kind == "class")
            if key is not None:
                mined.candidates.append(Candidate(example.function, text, example.imports, None, key, source))
    return mined
