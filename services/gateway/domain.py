"""Who asks, what a model's name means, and how pages are cut."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from model_training.contracts.endpoints import EXTERNAL_PREFIX

DEFAULT_PROJECT = "proj_default"
ALL_SCOPES = frozenset({"read", "submit", "infer", "observe", "admin"})
RAG_PREFIX = "rag:"
TUNED_PREFIX = "model_"

CHANGES = "gateway_changes"
"""The NOTIFY channel of what gateway processes remember for a while: keys, quotas and configuration."""

_INDEX_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def with_implied(scopes: Iterable[str]) -> frozenset[str]:
    """The scopes that a key has been given, and those that come with them: whoever manages the platform may look at it."""
    given = frozenset(scopes)
    return given | {"observe"} if "admin" in given else given


@dataclass(frozen=True)
class Allowance:
    """How much a key may keep waiting. None is no limit."""

    open_jobs_of_key: int | None = None
    open_jobs_of_project: int | None = None


@dataclass(frozen=True)
class Principal:
    """Whoever holds the key of a request. Services of the platform hold none and are not limited."""

    project_id: str
    scopes: frozenset[str]
    key_id: str | None = None
    allowance: Allowance = Allowance()
    admitted: bool = False
    """What is asked for is part of something that was admitted before: a step of a pipeline."""

    @property
    def name(self) -> str:
        """Who it was, for histories."""
        return self.key_id or "platform"

    @property
    def is_admin(self) -> bool:
        """Whether keys, projects and configuration may be managed."""
        return "admin" in self.scopes


@dataclass(frozen=True)
class ModelName:
    """A model's name taken apart: a base or tuned model, alone or behind an index."""

    model: str
    index: str | None = None

    @property
    def text(self) -> str:
        """The name as it is written."""
        return f"{RAG_PREFIX}{self.index}@{self.model}" if self.index else self.model

    @property
    def external(self) -> str | None:
        """The name of an endpoint of somebody else's, if it is one."""
        prefix, name = self.model[: len(EXTERNAL_PREFIX)], self.model[len(EXTERNAL_PREFIX) :]
        return name if prefix == EXTERNAL_PREFIX else None

    @property
    def is_tuned(self) -> bool:
        """Whether the model is a tuned one."""
        return self.model.startswith(TUNED_PREFIX)


def parse_model_name(name: str) -> ModelName:
    """Take `gemma-3-270m`, `model_…` or `rag:<index>@<model>` apart.

    Raises:
        ValueError: the name begins with `rag:` and lacks a part.
    """
    if not name.startswith(RAG_PREFIX):
        return ModelName(name)
    index, at, model = name.removeprefix(RAG_PREFIX).partition("@")
    if not at or not model or not _INDEX_NAME.fullmatch(index):
        raise ValueError(
            f"{name!r} is not of the form rag:<index>@<model>, for example rag:docs@gemma-3-270m"
        )
    return ModelName(model, index)
