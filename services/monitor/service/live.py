"""Holds samples of live answers against those that were accepted: have the questions drifted, or the answers?

A model's first samples are its reference. Later ones come in windows of a fixed size, each looked at once, so that the share
of false alarms is the stated one and no overlap raises it. Input (questions, retrieval) and output are judged apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.orm import Session

from libs.common.errors import Conflict
from model_training.contracts.monitoring import DriftSignal, LiveDrift
from services.monitor.domain.drift import Difference, Values, compare, drifted
from services.monitor.domain.samples import Reading
from services.monitor.repository import live as store
from services.monitor.service import meters

REFERENCE, WINDOW = 500, 200
SHARE = 0.01
"""Share of false alarms among a window's signals, input and output each."""
PERMUTATIONS = 1999
WINDOWS_AT_ONCE = 5
MOST_MODELS = 50
EVERY = timedelta(minutes=1)
KEPT, TEXTS_KEPT = timedelta(days=30), timedelta(days=7)
INPUT = ("question_", "retrieval_")

log = structlog.get_logger(__name__)
Signals = Mapping[str, Values]


class LiveDriftKeeper:
    """A duty of the watch."""

    def __init__(self) -> None:
        self._looked: datetime | None = None

    def __call__(self, session: Session, at: datetime, readings: Sequence[Reading]) -> None:
        """Once a minute: look at the windows that are full, and show what the last of each model said."""
        if self._looked is not None and at - self._looked < EVERY:
            return
        if self._looked is None or at.hour != self._looked.hour:
            store.forget(session, at - KEPT, at - TEXTS_KEPT)
        self._looked = at
        for model in store.models(session, at - KEPT, MOST_MODELS):
            look(session, model, at)


def look(session: Session, model: str, at: datetime) -> bool:
    """Take a model's full windows; returns whether the newest drifted."""
    row = store.reference(session, model)
    if row is None:
        first = store.samples(session, model, 0, REFERENCE)
        if len(first) == REFERENCE:
            store.put_reference(session, model, {"signals": _columns(s for _, s in first)}, first[-1][0], at)
        return False
    for _ in range(WINDOWS_AT_ONCE):
        window = store.samples(session, model, row.last_sample, WINDOW)
        if len(window) < WINDOW:
            break
        found = judge(row.values["signals"], _columns(s for _, s in window))
        if any(one["drifted"] for one in found.values()):
            log.warning("live_drift", model=model, signals=[n for n, one in found.items() if one["drifted"]])
        row.values = {**row.values, "found": found, "looked_at": at.isoformat()}
        row.last_sample = window[-1][0]
    return _show(model, row.values.get("found", {}))


def judge(reference: Signals, window: Signals) -> dict[str, dict[str, Any]]:
    """By signal: how far the window lies from the reference, and whether that counts as drift."""
    both = [name for name in reference if len(reference[name]) > 1 and len(window.get(name, ())) > 1]
    differences = {
        name: compare(reference[name], window[name], level=SHARE, permutations=PERMUTATIONS) for name in both
    }
    inputs, outputs = _apart(differences)
    found = drifted(inputs, share=SHARE) | drifted(outputs, share=SHARE)
    return {
        name: {"effect": one.effect, "p": one.p, "threshold": one.threshold, "drifted": name in found}
        for name, one in differences.items()
    }


def _apart(differences: Mapping[str, Difference]) -> tuple[dict[str, Difference], dict[str, Difference]]:
    inputs = {name: one for name, one in differences.items() if name.startswith(INPUT)}
    return inputs, {name: one for name, one in differences.items() if name not in inputs}


def _columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Values by signal; a sample without a signal (no code in the answer, say) is left out of it."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return found


def _show(model: str, found: Mapping[str, Mapping[str, Any]]) -> bool:
    for side in ("input", "output"):
        of_side = [one for name, one in found.items() if name.startswith(INPUT) == (side == "input")]
        meters.DRIFTED.labels(model, side).set(any(one["drifted"] for one in of_side))
        meters.DRIFT_EFFECT.labels(model, side).set(max((one["effect"] for one in of_side), default=0.0))
    return any(one["drifted"] for one in found.values())


def listed(session: Session) -> list[LiveDrift]:
    """What is known of each model that was sampled."""
    references = {row.model: row for row in store.references(session)}
    counts = store.counts(session)
    return [
        _described(model, counts.get(model, 0), references.get(model))
        for model in sorted(references.keys() | counts.keys())
    ]


def accept(session: Session, model: str, at: datetime) -> LiveDrift:
    """What is asked and answered now is meant: hold later samples against the newest ones.

    Raises:
        Conflict: there are too few samples.
    """
    newest = store.samples(session, model, 0, REFERENCE, newest=True)
    if len(newest) < REFERENCE:
        raise Conflict(
            f"{len(newest)} answers of {model!r} were sampled; a reference takes {REFERENCE}.",
            param="model",
            hint="Wait, or sample a larger share: MT_SAMPLING_SHARE=1.",
        )
    store.put_reference(session, model, {"signals": _columns(s for _, s in newest)}, newest[-1][0], at)
    session.flush()
    _show(model, {})
    return _described(model, store.counts(session)[model], store.reference(session, model))


def _described(model: str, samples: int, row: Any) -> LiveDrift:
    if row is None:
        words = f"{samples} of {REFERENCE} samples for a reference are in."
        return LiveDrift(model=model, samples=samples, words=words)
    signals = [
        DriftSignal(name=name, side="input" if name.startswith(INPUT) else "output", **one)
        for name, one in row.values.get("found", {}).items()
    ]
    moved = [one.name.replace("_", " ") for one in signals if one.drifted]
    words = (
        f"Drifted: {', '.join(moved)}."
        if moved
        else f"As accepted, by windows of {WINDOW}."
        if signals
        else f"The next {WINDOW} samples will be the first to be held against the reference."
    )
    return LiveDrift(
        model=model,
        samples=samples,
        accepted_at=row.accepted_at,
        looked_at=row.values.get("looked_at"),
        signals=sorted(signals, key=lambda one: -one.effect),
        words=words,
    )
