"""The same create, sent twice, happens once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel
from sqlalchemy.orm import Session

from libs.common.db.tables import IdempotencyRow
from libs.common.errors import Conflict, InvalidInput
from services.gateway import repository
from services.gateway.domain import Principal

MAX_KEY = 255


def once(
    session: Session,
    principal: Principal,
    key: str | None,
    route: str,
    body: Any,
    create: Callable[[], BaseModel],
    *,
    secrets: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """The answer of `create`, or the stored one if this key has created before.

    The answer and what it stands for are written in one transaction, so a crash between them is not possible.
    Fields named in `secrets` are in the first answer only.

    Raises:
        Conflict: the key was used with another body or at another address.
    """
    stored = find(session, principal, key, route, body)
    if stored is not None:
        return stored
    response = create().model_dump(mode="json")
    if key is not None:
        kept = {name: None if name in secrets else value for name, value in response.items()}
        session.add(
            IdempotencyRow(
                project_id=principal.project_id,
                key=key,
                route=route,
                body_sha256=_digest(body),
                status=200,
                response=kept,
            )
        )
    return response


def find(
    session: Session, principal: Principal, key: str | None, route: str, body: Any
) -> dict[str, Any] | None:
    """The stored answer of a key. Waits for a request with the same key that is under way.

    Raises:
        Conflict: the key was used with another body or at another address.
        InvalidInput: the key is empty or too long.
    """
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY:
        raise InvalidInput(
            f"Idempotency-Key has {len(key)} characters; 1 to {MAX_KEY} are allowed.", param="Idempotency-Key"
        )
    stored = repository.idempotent_answer(session, principal.project_id, key)
    if stored is not None and (stored.route, stored.body_sha256) != (route, _digest(body)):
        raise Conflict(
            f"Idempotency-Key {key!r} was used for another request.",
            param="Idempotency-Key",
            hint="Send a new key with a new request, or the very same body with the old one.",
        )
    return stored.response if stored is not None else None


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()
