"""What every route needs: the process's parts, and whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import httpx
from fastapi import Depends, Header, Query, Request
from fastapi.security import HTTPBearer

from libs.common.artifacts import ArtifactStore
from libs.common.auth import bearer_token
from libs.common.db.engine import Database
from libs.common.errors import Forbidden
from services.gateway.domain import Principal
from services.gateway.service import keys
from services.gateway.service.feeds import Feeds
from services.gateway.service.files import FileService
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
    http: httpx.Client
    streaming: httpx.AsyncClient


def gateway_of(request: Request) -> Gateway:
    """The parts of the process that serves this request."""
    return request.app.state.gateway


Parts = Annotated[Gateway, Depends(gateway_of)]


def _principal(scope: str) -> Callable[[Request, Gateway], Principal]:
    def principal(
        request: Request, gateway: Parts, _: Annotated[object, Depends(bearer)] = None
    ) -> Principal:
        with gateway.database.session() as session:
            project = request.headers.get("x-mt-project")
            who = keys.authenticate(session, gateway.settings, bearer_token(request), project)
        if scope not in who.scopes:
            raise Forbidden(
                f"The key lacks the scope {scope!r}.", hint=f"It has: {', '.join(sorted(who.scopes))}."
            )
        return who

    return principal


Reader = Annotated[Principal, Depends(_principal("read"))]
Submitter = Annotated[Principal, Depends(_principal("submit"))]
Asker = Annotated[Principal, Depends(_principal("infer"))]
IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", description="Makes sending twice harmless.")
]
After = Annotated[str | None, Query(description="Go on after this id.", max_length=200)]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
