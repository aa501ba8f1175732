"""What every route needs: the process's parts, and whoever asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
from fastapi import Depends, Header, Path, Query, Request
from fastapi.security import HTTPBearer

from libs.common.artifacts import ArtifactStore
from libs.common.db.engine import Database
from libs.common.egress import Egress
from libs.common.errors import Forbidden
from libs.common.runtime_config import JobDefaults, RuntimeConfig
from model_training.contracts.jobs import JobState
from services.gateway.domain import Principal
from services.gateway.ports import Buckets, External, Monitor, Relay
from services.gateway.service.feeds import Feeds
from services.gateway.service.files import FileService
from services.gateway.service.keyring import Keyring
from services.gateway.service.readings import Readings
from services.gateway.settings import GatewaySettings

bearer = HTTPBearer(auto_error=False, description="An API key. `mt up` makes the first one.")


@dataclass(frozen=True)
class Gateway:
    """The parts of the process, built in `main`."""

    settings: GatewaySettings
    database: Database
    files: FileService
    artifacts: ArtifactStore
    feeds: Feeds
    readings: Readings
    http: httpx.Client
    relay: Relay
    config: RuntimeConfig
    keyring: Keyring
    buckets: Buckets
    external: External
    egress: Egress
    monitor: Monitor

    @property
    def max_attempts(self) -> int:
        """Tries of a new job before it fails for good."""
        return self.config.read(JobDefaults).max_attempts


async def gateway_of(request: Request) -> Gateway:
    """The parts of the process that serves this request. Async, because FastAPI runs what is not on another thread."""
    return request.app.state.gateway


Parts = Annotated[Gateway, Depends(gateway_of)]


def _principal(scope: str) -> Callable[[Request], Awaitable[Principal]]:
    async def principal(request: Request, _: Annotated[object, Depends(bearer)] = None) -> Principal:
        who: Principal = request.state.principal  # `Admission` has put it there
        if scope not in who.scopes:
            raise Forbidden(
                f"The key lacks the scope {scope!r}.",
                hint=f"It has: {', '.join(sorted(who.scopes))}. An administrator makes one that has it: "
                f"mt keys create NAME --scope {scope}.",
            )
        return who

    return principal


Reader = Annotated[Principal, Depends(_principal("read"))]
Submitter = Annotated[Principal, Depends(_principal("submit"))]
Observer = Annotated[Principal, Depends(_principal("observe"))]
Admin = Annotated[Principal, Depends(_principal("admin"))]
Asker = Annotated[Principal, Depends(_principal("infer"))]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Makes sending twice harmless: the same key and body get the first answer again.",
        min_length=1,
        max_length=255,
        examples=["4f0c1d8e"],
    ),
]
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description="The ETag of what is changed, or `*`. Without it the answer is 428, with an old one 412.",
        max_length=200,
        examples=['"3"'],
    ),
]
After = Annotated[
    str | None,
    Query(
        description="Go on after this id.",
        max_length=200,
        pattern=r"^[a-z]+_[A-Za-z0-9_-]+$",
        examples=["ftjob_01k9zq3v5c"],
    ),
]
AfterVersion = Annotated[int | None, Query(description="Go on after this version.", ge=1, le=2**31 - 1)]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
StateFilter = Annotated[JobState | None, Query(description="Only jobs in this state.")]


def _path(what: str, example: str) -> Any:
    return Path(description=what, min_length=1, max_length=200, examples=[example])


JobId = Annotated[str, _path("A job's id.", "ftjob_01k9zq3v5c")]
FileId = Annotated[str, _path("A file's id.", "file_01k9zq3v5c")]
ModelId = Annotated[str, _path("A base, a tuned model's id, or `champion`.", "gemma-3-270m")]
