"""What nothing needs any more. Pure rules: what there is and what refers to it in, what may go out.

Kept is whatever a row of the platform could still lead somebody to: adapters of models and what aliases point to, reports
of comparisons, everything that an unfinished job, sweep or pipeline names, files that are listed, indexes that are listed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_HASH = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_ID = re.compile(r"(?<![a-z0-9])(?:ftjob|idx|eval|cmp|pipe|sweep)_[0-9a-z]+")


@dataclass(frozen=True)
class Job:
    """A job as far as clean-up looks at it. `ended_days`: days since it ended; None while it has not.

    `texts`: its specification, result and steps as JSON, in which ids and hashes are looked for. `parent`: the sweep or
    pipeline that it is part of.
    """

    id: str
    kind: str
    ended_days: float | None = None
    texts: str = ""
    parent: str | None = None


@dataclass(frozen=True)
class Rows:
    """What the database holds."""

    jobs: Sequence[Job] = ()
    models: Mapping[str, str] = field(default_factory=dict[str, str])
    """Each model's artifact."""
    model_texts: str = ""
    """Lineage and gate of all models, as JSON."""
    files: frozenset[str] = frozenset()
    """Hashes of listed files."""
    indexes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Found:
    """What lies on the disk: names, with the age of each in days."""

    artifacts: Mapping[str, float] = field(default_factory=dict[str, float])
    files: Mapping[str, float] = field(default_factory=dict[str, float])
    workdirs: Mapping[str, float] = field(default_factory=dict[str, float])
    indexes: Mapping[str, float] = field(default_factory=dict[str, float])
    snapshots: Mapping[str, float] = field(default_factory=dict[str, float])
    logs: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Retention:
    """In days. `fresh`: whatever is younger stays, since what made it may not have said so yet."""

    fresh: float = 1.0
    workdirs: float = 7.0
    logs: float = 30.0


@dataclass(frozen=True)
class Garbage:
    """What may go, by kind; names in order."""

    artifacts: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    workdirs: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()


def needed_artifacts(rows: Rows) -> set[str]:
    """Artifacts that something still leads to. A finished training whose model was deleted leads to its adapter no more."""
    needed = {*rows.models.values(), *_HASH.findall(rows.model_texts)}
    for job in rows.jobs:
        if job.ended_days is None or job.kind != "train" or _made_a_model_of(job, rows.models):
            needed.update(_HASH.findall(job.texts))
    return needed


def busy_jobs(rows: Rows) -> set[str]:
    """Unfinished jobs, whatever they name, and whatever is part of an unfinished sweep or pipeline."""
    unfinished = {job.id for job in rows.jobs if job.ended_days is None}
    named = {id for job in rows.jobs if job.ended_days is None for id in _ID.findall(job.texts)}
    parts = {job.id for job in rows.jobs if job.parent in unfinished}
    return unfinished | named | parts


def garbage(rows: Rows, found: Found, retention: Retention) -> Garbage:
    """What may go."""
    busy, ended = busy_jobs(rows), {job.id: job.ended_days for job in rows.jobs}

    def over(job_id: str, age: float, days: float) -> bool:
        since = ended.get(job_id, age)  # a job that is not there: as old as what is left of it
        return job_id not in busy and since is not None and min(since, age) >= days

    needed = needed_artifacts(rows)
    days = retention.fresh
    return Garbage(
        artifacts=_old(found.artifacts, days, lambda name: name not in needed),
        files=_old(found.files, days, lambda name: name.startswith(".upload-") or name not in rows.files),
        workdirs=_names(name for name, age in found.workdirs.items() if over(name, age, retention.workdirs)),
        indexes=_old(found.indexes, days, lambda name: name not in rows.indexes and name not in busy),
        snapshots=_old(found.snapshots, days, lambda name: _index_of(name) not in rows.indexes | busy),
        logs=_names(name for name, age in found.logs.items() if over(name, age, retention.logs)),
    )


def as_text(*values: Any) -> str:
    """JSON values as the text that ids are looked for in."""
    return json.dumps(values, default=str)


def _made_a_model_of(job: Job, models: Mapping[str, str]) -> bool:
    return any(model in job.texts for model in models)


def _index_of(snapshot: str) -> str:
    return snapshot.partition("-")[0]


def _old(found: Mapping[str, float], days: float, is_garbage: Callable[[str], bool]) -> tuple[str, ...]:
    return _names(name for name, age in found.items() if age >= days and is_garbage(name))


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names))
