"""API keys and the projects that they belong to."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from model_training.contracts.base import WHOLE, Name, Number, Reference, Reply, Wire

Scope = Literal["read", "submit", "infer", "observe", "admin"]
"""`read` looks at a project's things, `submit` creates and steers, `infer` asks models, `observe` looks at the platform
(alerts, canaries, drift, metrics, queues), `admin` manages keys, projects and configuration, and may observe."""

DAY_S = 24 * 3600
YEAR_S = 366 * DAY_S


class ApiKeyCreate(Wire):
    """Make a key. Without an expiry it lives until it is revoked."""

    name: Name = Field(examples=["ci"])
    scopes: list[Scope] = Field(min_length=1, max_length=5, examples=[["read", "submit"]])
    expires_at: AwareDatetime | None = Field(default=None, description="A time with its zone, in the future.")
    expires_in_s: Annotated[int, Field(ge=1, le=10 * YEAR_S), WHOLE] | None = Field(
        default=None, description="Seconds until it expires; instead of `expires_at`."
    )
    project: Reference | None = Field(
        default=None, description="Whose key it is; the asking key's own by default."
    )


class ApiKey(Reply):
    """A key without its secret."""

    id: str = Field(examples=["key_01k9zq3v5c"])
    object: Literal["api_key"] = "api_key"
    name: str = Field(examples=["ci"])
    project: str = Field(examples=["proj_default"])
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    overlap_until: datetime | None = Field(
        default=None, description="Until when the secret before the last rotation works too."
    )


class NewApiKey(ApiKey):
    """A key just made. `key` is shown this once; a repeated request with the same Idempotency-Key shows None."""

    key: str | None = Field(default=None, examples=["mt-…"])


class ApiKeyRotate(Wire):
    """Give a key a new secret."""

    overlap_s: Annotated[int, Field(ge=0, le=30 * DAY_S), WHOLE] = Field(
        default=DAY_S,
        description="Seconds for which the old secret goes on working; 0 ends it at once.",
        examples=[3600],
    )


class Quotas(Wire):
    """What a project may have at most. None means no limit of its own. Sizes are in bytes."""

    max_open_jobs: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = None
    max_running_jobs: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = None
    max_file_bytes: Annotated[int, Field(ge=1, le=2**50), WHOLE] | None = None
    max_storage_bytes: Annotated[int, Field(ge=0, le=2**50), WHOLE] | None = None


class ProjectCreate(Wire):
    """Make a project."""

    name: Name = Field(examples=["search"])
    priority: Annotated[int, Field(ge=-1000, le=1000), WHOLE] = 0
    """The higher runs first."""
    weight: Annotated[Number, Field(gt=0, le=1000)] = 1.0
    """Share of the workers beside other projects of the same priority."""
    quotas: Quotas = Quotas()


class ProjectUpdate(Wire):
    """Change a project: only what is named changes; `quotas` is replaced as a whole."""

    name: Name | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000), WHOLE] | None = None
    weight: Annotated[Number, Field(gt=0, le=1000)] | None = None
    quotas: Quotas | None = Field(default=None, examples=[{"max_open_jobs": 100}])


class ProjectUsage(Reply):
    """What a project has now. Sizes are in bytes."""

    open_jobs: int = 0
    running_jobs: int = 0
    storage_bytes: int = 0


class Project(Reply):
    """A project. `version` is also the ETag that a change must name in `If-Match`."""

    id: str = Field(examples=["proj_default"])
    object: Literal["project"] = "project"
    name: str = Field(examples=["search"])
    priority: int
    weight: float
    quotas: Quotas
    usage: ProjectUsage = ProjectUsage()
    version: int
    created_at: datetime
