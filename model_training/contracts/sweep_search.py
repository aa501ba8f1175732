"""From a search to its trials: every combination of a grid, or random draws. Pure: knows no files, models or jobs.

Whether a value is one that its setting takes is not judged here; the gateway checks every trial as a fine-tuning job.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from model_training.contracts.sweeps import MAX_JOBS, MAX_TRIALS, SearchRange, SweepCreate

Settings = dict[str, Any]
Search = Mapping[str, Sequence[Any] | SearchRange]

DIGITS = 4
"""Significant digits of numbers that are drawn: enough to tell trials apart, few enough to read."""

TRIES = 1000
"""Draws in a row that may repeat an earlier trial before drawing gives up."""


class SweepFault(ValueError):
    """The search cannot be run as it is written. `param` names the field."""

    def __init__(self, message: str, param: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.hint = hint


def trials_of(request: SweepCreate) -> list[Settings]:
    """The settings of every trial, each once. The same request has the same trials, whatever the order of its fields.

    Raises:
        SweepFault: a range or list is not one, or there would be more jobs than one sweep may have.
    """
    for name, values in request.search.items():
        _check(name, values, drawn=request.trials is not None)
    _each_once("seeds", request.seeds)
    size = size_of(request.search)
    count = size if request.trials is None else request.trials
    if count > size:
        raise SweepFault(
            f"trials = {request.trials}: the search has only {size:.0f} different combinations.",
            "trials",
            "Ask for fewer, leave `trials` out to run all of them, or give more values.",
        )
    _require_room(request, count)
    ordered = {name: request.search[name] for name in sorted(request.search)}
    return _grid(ordered) if request.trials is None else _draws(ordered, request.trials, request.seed)


def jobs_at_most(trials: int, seeds: int, finalists: int) -> int:
    """How many jobs a sweep makes at most: each trial with one seed, the finalists with the others."""
    return trials + min(finalists, trials) * (seeds - 1)


def size_of(search: Search) -> float:
    """How many different trials a search has; infinity where a range is continuous."""
    return math.prod(_choices(values) for values in search.values())


def _choices(values: Sequence[Any] | SearchRange) -> float:
    if isinstance(values, SearchRange):
        return values.high - values.low + 1 if values.integer else math.inf
    return len(values)


def _check(name: str, values: Sequence[Any] | SearchRange, *, drawn: bool) -> None:
    param = f"search.{name}"
    if not isinstance(values, SearchRange):
        return _each_once(param, values)
    if not drawn:
        raise SweepFault(
            f"{param} is a range, and a grid has only lists.",
            param,
            "Set `trials` to draw at random, or list the values.",
        )
    if values.low >= values.high:
        raise SweepFault(f"{param}: low = {values.low:g} is not below high = {values.high:g}.", param)
    if values.log and values.low <= 0:
        raise SweepFault(f"{param}: low = {values.low:g} must be above 0 where log is true.", param)
    if values.integer and not (values.low.is_integer() and values.high.is_integer()):
        raise SweepFault(
            f"{param}: low = {values.low:g} and high = {values.high:g} must be whole where integer is true.",
            param,
        )
    return None


def _each_once(param: str, values: Sequence[Any]) -> None:
    for position, value in enumerate(values):
        if any(_same(value, earlier) for earlier in values[:position]):
            raise SweepFault(f"{param} holds {value!r} twice.", param, "List each value once.")


def _same(a: Any, b: Any) -> bool:
    """Equal as JSON: true is not 1."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _require_room(request: SweepCreate, trials: float) -> None:
    if trials > MAX_TRIALS:
        raise SweepFault(
            f"The grid has {trials:.0f} combinations; a sweep has at most {MAX_TRIALS} trials.",
            "search",
            f"List fewer values, or set `trials` to draw up to {MAX_TRIALS} of them at random.",
        )
    jobs = jobs_at_most(int(trials), len(request.seeds), request.finalists)
    if jobs > MAX_JOBS:
        raise SweepFault(
            f"{trials:.0f} trials and {len(request.seeds) - 1} more seeds of {min(request.finalists, int(trials))} "
            f"finalists are {jobs} jobs; a sweep has at most {MAX_JOBS}.",
            "finalists",
            "Lower finalists, seeds or the number of trials.",
        )


def _grid(search: Search) -> list[Settings]:
    lists = [values for values in search.values() if not isinstance(values, SearchRange)]
    return [dict(zip(search, chosen, strict=True)) for chosen in itertools.product(*lists)]


def _draws(search: Search, count: int, seed: int) -> list[Settings]:
    """Different draws. Where few combinations are left, trying would take long, so a small finite space is sampled."""
    generator = random.Random(seed)
    if (finite := _finite(search)) is not None:
        return generator.sample(_grid(finite), count)
    found: list[Settings] = []
    tries = 0
    while len(found) < count:
        drawn = {name: _draw(generator, values) for name, values in search.items()}
        if drawn not in found:
            found.append(drawn)
            tries = 0
        elif (tries := tries + 1) > TRIES:
            raise SweepFault(
                f"trials = {count}: only {len(found)} different ones were found; the last {TRIES} draws repeated them.",
                "trials",
                "Ask for fewer, or widen the ranges.",
            )
    return found


def _finite(search: Search) -> dict[str, Sequence[Any]] | None:
    """The same search with lists only, if it is small enough to be written out and every value is as likely as another."""
    if size_of(search) > 10 * MAX_TRIALS or any(
        isinstance(v, SearchRange) and v.log for v in search.values()
    ):
        return None
    return {
        name: range(int(values.low), int(values.high) + 1) if isinstance(values, SearchRange) else values
        for name, values in search.items()
    }


def _draw(generator: random.Random, values: Sequence[Any] | SearchRange) -> Any:
    if not isinstance(values, SearchRange):
        return generator.choice(values)
    # Whole numbers get the half on either side of them, so that both ends are as likely as the others.
    half = 0.5 if values.integer else 0.0
    low, high = values.low - half, values.high + half
    drawn = (
        math.exp(generator.uniform(math.log(low), math.log(high)))
        if values.log
        else generator.uniform(low, high)
    )
    rounded = round(drawn) if values.integer else float(f"{drawn:.{DIGITS}g}")
    whole = int if values.integer else float
    return min(max(rounded, whole(values.low)), whole(values.high))
