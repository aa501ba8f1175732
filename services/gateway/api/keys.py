"""`/v1/api_keys`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from model_training.contracts.base import Deleted, Page
from model_training.contracts.keys import ApiKey, ApiKeyCreate, ApiKeyRotate, NewApiKey
from services.gateway.api.dependencies import Admin, After, IdempotencyKey, Limit, Parts
from services.gateway.service import idempotency, keys

router = APIRouter(prefix="/v1/api_keys", tags=["keys"])
SECRETS = frozenset({"key"})
KeyId = Annotated[
    str, Path(description="A key's id.", min_length=1, max_length=200, examples=["key_01k9zq3v5c"])
]


@router.post("", summary="Make an API key", response_model=NewApiKey)
def create(
    gateway: Parts, who: Admin, request: ApiKeyCreate, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """Make a key with some of your own scopes. Its secret is in this answer and nowhere else: the platform keeps an HMAC."""
    pepper = gateway.settings.key_pepper.get_secret_value()
    with gateway.database.session() as session:
        return idempotency.once(
            session,
            who,
            idempotency_key,
            "/v1/api_keys",
            request.model_dump(mode="json"),
            lambda: keys.create(session, who, request, pepper),
            secrets=SECRETS,
        )


@router.get("", summary="List API keys")
def list_keys(
    gateway: Parts,
    who: Admin,
    after: After = None,
    limit: Limit = 20,
    project: Annotated[
        str | None, Query(description="Whose keys; your own project's by default.", max_length=200)
    ] = None,
) -> Page[ApiKey]:
    """Keys of a project without their secrets, newest first; revoked and expired ones are among them."""
    with gateway.database.session() as session:
        return keys.list_keys(session, who, project, after, limit)


@router.post("/{key_id}/rotate", summary="Rotate an API key", response_model=NewApiKey)
def rotate(
    gateway: Parts, who: Admin, key_id: KeyId, request: ApiKeyRotate, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """Give a key a new secret, shown in this answer only; its id, scopes and expiry stay. The old secret works for the
    overlap, so that programs can change over without a break. `self` is the key that asks."""
    pepper = gateway.settings.key_pepper.get_secret_value()
    with gateway.database.session() as session:
        rotated = idempotency.once(
            session,
            who,
            idempotency_key,
            f"/v1/api_keys/{key_id}/rotate",
            request.model_dump(mode="json"),
            lambda: keys.rotate(session, who, key_id, request, pepper),
            secrets=SECRETS,
        )
    gateway.keyring.forget()
    return rotated


@router.delete("/{key_id}", summary="Revoke an API key")
def revoke(gateway: Parts, who: Admin, key_id: KeyId) -> Deleted:
    """End a key for good: where it is asked at once, in every process and replica within a second. It stays in the list. No
    key revokes itself."""
    with gateway.database.session() as session:
        revoked = keys.revoke(session, who, key_id)
    gateway.keyring.forget()
    return revoked
