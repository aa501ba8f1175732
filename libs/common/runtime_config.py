"""Configuration that changes while the platform runs: sections, where each value comes from, and a reader that keeps up.

A value is the last of: the default below, `<section>: {<name>: …}` in `config.yaml` of the data directory,
`MT_<SECTION>_<NAME>` in the environment, and what was set through the API (table `config_versions`, append-only). Changing
it is the gateway's work; every process may read.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import structlog
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import ConfigVersionRow
from model_training.contracts.base import WHOLE, Flag, Number
from model_training.contracts.config import Origin

log = structlog.get_logger(__name__)

Count = Annotated[int, Field(ge=1, le=2**31 - 1), WHOLE]
Rate = Annotated[Number, Field(gt=0, le=1e6)]


class Section(BaseModel):
    """A group of values that change together. The docstring under a field is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    section: ClassVar[str]


class Limits(Section):
    """What one key may ask of the gateway."""

    section: ClassVar[str] = "limits"
    requests_per_s: Rate = 1000.0
    """Requests of one key a second, on average."""
    burst: Count = 2000
    """Requests of one key that may come at once."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=2**30), WHOLE] = 4 * 1024 * 1024
    """Largest request that is not an upload, in bytes."""
    max_file_rows: Count = 2_000_000
    """Most lines of an uploaded file; checking one holds some 150 bytes of memory a line."""
    max_open_jobs_per_key: Count = 20_000
    """Unfinished jobs that one key may have created."""
    max_open_jobs_per_project: Count = 50_000
    """Unfinished jobs of a project that has no quota of its own."""


class JobDefaults(Section):
    """What a new job gets."""

    section: ClassVar[str] = "jobs"
    max_attempts: Annotated[int, Field(ge=1, le=100), WHOLE] = 3
    """Tries before a job fails for good."""


class InferenceDefaults(Section):
    """What a chat or completion gets that does not say."""

    section: ClassVar[str] = "inference"
    max_tokens: Annotated[int, Field(ge=1, le=32_768), WHOLE] | None = None
    """Tokens of an answer at most; none leaves it to the engine."""
    temperature: Annotated[Number, Field(ge=0, le=2)] = 0.0
    """How freely words are drawn; 0 always takes the likeliest."""


class RetrievalDefaults(Section):
    """How a `rag:<index>@<model>` searches and packs when the request does not say; none leaves it to the service."""

    section: ClassVar[str] = "rag"
    mode: Literal["hybrid", "dense", "bm25"] | None = None
    """How passages are found."""
    passages: Annotated[int, Field(ge=1, le=50), WHOLE] | None = None
    """Passages in the prompt at most."""
    context_tokens: Annotated[int, Field(ge=0, le=100_000), WHOLE] | None = None
    """Tokens that passages may cost."""


class LiveSampling(Section):
    """Which live answers are measured, to notice when questions or answers drift. Off until a share is set."""

    section: ClassVar[str] = "sampling"
    share: Annotated[Number, Field(ge=0, le=1)] = 0.0
    """Share of the answers of which numbers are kept: lengths, refusals, repetition, retrieval scores. 0 keeps none."""
    keep_text: Flag = False
    """Keep the texts of sampled questions and answers too, secrets and addresses blotted out, for a week."""


SECTIONS: Mapping[str, type[Section]] = {
    kind.section: kind for kind in (Limits, JobDefaults, InferenceDefaults, RetrievalDefaults, LiveSampling)
}

S = TypeVar("S", bound=Section)


@dataclass(frozen=True)
class Setting:
    """A value and where it comes from."""

    value: Any
    origin: Origin


def inherited(kind: type[Section], home: Path, environment: Mapping[str, str]) -> dict[str, Setting]:
    """The values of a section before any change at run time.

    Raises:
        ValueError: the file or the environment holds a value that breaks a rule; the place is named.
    """
    defaults = kind()
    settings = {name: Setting(getattr(defaults, name), "default") for name in kind.model_fields}
    for name, value in _from_file(kind, home / "config.yaml").items():
        settings[name] = Setting(value, "file")
    for name in kind.model_fields:
        text = environment.get(f"MT_{kind.section}_{name}".upper())
        if text is not None:
            settings[name] = Setting(yaml.safe_load(text), "environment")
    checked = build(kind, {name: setting.value for name, setting in settings.items()})
    return {name: Setting(getattr(checked, name), setting.origin) for name, setting in settings.items()}


def build(kind: type[S], values: Mapping[str, Any]) -> S:
    """A section of these values.

    Raises:
        ValueError: a value breaks a rule; it is named.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{kind.section}.{first['loc'][0]}: {first['msg']}") from error


def _from_file(kind: type[Section], path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    values = content.get(kind.section) or {} if isinstance(content, dict) else None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: {kind.section} must be a group of names and values")
    unknown = sorted(set(values) - set(kind.model_fields))
    if unknown:
        raise ValueError(f"{path}: {kind.section}.{unknown[0]} is unknown")
    return values


def newest(session: Session, section: str) -> ConfigVersionRow | None:
    """The last change of a section at run time."""
    return session.scalars(
        select(ConfigVersionRow)
        .where(ConfigVersionRow.section == section)
        .order_by(ConfigVersionRow.version.desc())
        .limit(1)
    ).first()


class RuntimeConfig:
    """Reads sections, each at most once in `max_age_s` seconds. Without a database the last values stay in force."""

    def __init__(
        self, database: Database, home: Path, environment: Mapping[str, str], *, max_age_s: float = 1.0
    ) -> None:
        self._database = database
        self._max_age_s = max_age_s
        self._inherited = {name: inherited(kind, home, environment) for name, kind in SECTIONS.items()}
        self._cache: dict[str, tuple[float, Section]] = {}
        self._lock = threading.Lock()

    def inherited(self, section: str) -> dict[str, Setting]:
        """The values of a section before any change at run time."""
        return self._inherited[section]

    def fresh(self, kind: type[S]) -> S | None:
        """The section, if it was read lately enough; reads nothing, so that an event loop may ask."""
        cached = self._cache.get(kind.section)
        if cached is None or time.monotonic() >= cached[0]:
            return None
        return cached[1]  # pyright: ignore[reportReturnType] (stored under its own name)

    def read(self, kind: type[S]) -> S:
        """The section as it is now, `max_age_s` old at most."""
        if (fresh := self.fresh(kind)) is not None:
            return fresh
        now, cached = time.monotonic(), self._cache.get(kind.section)
        with self._lock:
            # Others go on with what is there while one reads.
            present = self._cache.get(kind.section)
            if cached is not None and present is not None and present is not cached:
                return present[1]  # pyright: ignore[reportReturnType]
            value = self._load(kind, cached[1] if cached else None)
            self._cache[kind.section] = (now + self._max_age_s, value)
            return value  # pyright: ignore[reportReturnType]

    def forget(self) -> None:
        """Read afresh next time: something was changed. Without a database the last values stay in force."""
        self._cache = {name: (-math.inf, section) for name, (_, section) in self._cache.items()}

    def _load(self, kind: type[Section], last: Section | None) -> Section:
        base = {name: setting.value for name, setting in self._inherited[kind.section].items()}
        try:
            with self._database.session() as session:
                row = newest(session, kind.section)
                changed = row.values if row else {}
            return build(kind, base | {k: v for k, v in changed.items() if k in kind.model_fields})
        except (SQLAlchemyError, ValueError) as error:
            log.warning("configuration_not_read", section=kind.section, error=str(error).splitlines()[0])
            return last or build(kind, base)
