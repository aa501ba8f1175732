"""`/v1/endpoints`: models outside the platform, asked as `external:<name>`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from model_training.contracts.base import Deleted, Page
from model_training.contracts.endpoints import Endpoint, EndpointCreate
from services.gateway.api.dependencies import Admin, After, IdempotencyKey, Limit, Parts, Reader
from services.gateway.service import endpoints, idempotency

router = APIRouter(prefix="/v1/endpoints", tags=["endpoints"])
Name = Annotated[
    str, Path(description="An endpoint's name.", min_length=1, max_length=64, examples=["big-model"])
]


@router.post("", summary="Make an endpoint known", response_model=Endpoint)
def create(
    gateway: Parts, who: Admin, request: EndpointCreate, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """Make an OpenAI-compatible endpoint known, with its key and prices. It can then be asked, evaluated and compared as
    `external:<name>`. The key is kept encrypted and never shown."""
    pepper = gateway.settings.key_pepper.get_secret_value()
    with gateway.database.session() as session:
        return idempotency.once(
            session,
            who,
            idempotency_key,
            "/v1/endpoints",
            request.model_dump(mode="json"),
            lambda: endpoints.create(session, who, request, gateway.egress, pepper),
        )


@router.get("", summary="List endpoints")
def list_endpoints(gateway: Parts, who: Reader, after: After = None, limit: Limit = 20) -> Page[Endpoint]:
    """The project's endpoints without their keys, newest first."""
    with gateway.database.session() as session:
        return endpoints.list_page(session, who, after, limit)


@router.delete("/{name}", summary="Forget an endpoint")
def delete(gateway: Parts, who: Admin, name: Name) -> Deleted:
    """Forget an endpoint and its key; refused while an unfinished job needs it."""
    with gateway.database.session() as session:
        return endpoints.delete(session, who, name)
