"""`/v1/adapters`: tuned models as the inference service sees them, of the key's project."""

from __future__ import annotations

from typing import Annotated

import httpx
from fastapi import APIRouter, Path, Response

from libs.common.db.tables import ModelRow
from libs.common.errors import NotFound, Unavailable
from model_training.contracts.base import Page
from model_training.contracts.models import Adapter, AdapterAction
from services.gateway import repository
from services.gateway.api.dependencies import Admin, After, Gateway, Limit, Parts, Reader
from services.gateway.service import audit

router = APIRouter(prefix="/v1/adapters", tags=["models"])
Model = Annotated[
    str,
    Path(description="A tuned model's id.", pattern=r"^model_[a-z0-9]{1,60}$", examples=["model_01k9zq3v5c"]),
]
Action = Annotated[AdapterAction, Path(description="What to do with it.", examples=["pin"])]


@router.get("", summary="List adapters")
def list_adapters(gateway: Parts, who: Reader, after: After = None, limit: Limit = 1000) -> Page[Adapter]:
    """Which tuned models are in memory, pinned, or refused and why; newest first."""
    answer = _ask(gateway, "GET", "/v1/adapters")
    found = Page[Adapter].model_validate_json(answer.content) if answer.is_success else Page[Adapter](data=[])
    with gateway.database.session() as session:
        own = [one for one in found.data if repository.get(session, ModelRow, who.project_id, one.id)]
    later = [one for one in own if after is None or one.id < after]
    return Page.of(later[:limit], len(later) > limit)


@router.post("/{model}/{action}", summary="Load, unload, pin or unpin an adapter", response_model=Adapter)
def act(gateway: Parts, who: Admin, model: Model, action: Action) -> Response:
    """`load` holds it to its fingerprint before anybody asks; `pin` keeps it in memory, also after a restart."""
    with gateway.database.session() as session:
        if repository.get(session, ModelRow, who.project_id, model) is None:
            raise NotFound(
                f"There is no model {model!r}.", param="model", hint="`mt models list` shows them."
            )
    answer = _ask(gateway, "POST", f"/v1/adapters/{model}/{action}")
    if answer.is_success:
        audit.note(gateway.database, "adapter.changed", f"{model}/{action}", None)
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))


def _ask(gateway: Gateway, method: str, path: str) -> httpx.Response:
    try:
        return gateway.http.request(method, f"{gateway.settings.inference_url}{path}")
    except httpx.HTTPError as error:
        raise Unavailable("The inference service does not answer.", hint="`mt status` shows why.") from error
