"""Who a key belongs to."""

from __future__ import annotations

import hmac

from sqlalchemy.orm import Session

from libs.common.auth import key_digest
from libs.common.db.tables import ApiKeyRow
from libs.common.errors import Unauthorized
from libs.common.ids import new_id
from services.gateway import repository
from services.gateway.domain import ALL_SCOPES, DEFAULT_PROJECT, Principal
from services.gateway.settings import GatewaySettings


def bootstrap(session: Session, settings: GatewaySettings) -> None:
    """Make the default project and, if one is given, the first key."""
    repository.ensure_project(session, DEFAULT_PROJECT, "default")
    if settings.bootstrap_api_key is not None:
        digest = key_digest(
            settings.bootstrap_api_key.get_secret_value(), settings.key_pepper.get_secret_value()
        )
        key = ApiKeyRow(
            id=new_id("key"),
            project_id=DEFAULT_PROJECT,
            name="bootstrap",
            digest=digest,
            scopes=sorted(ALL_SCOPES),
        )
        repository.ensure_key(session, key)


def authenticate(
    session: Session, settings: GatewaySettings, token: str | None, project: str | None
) -> Principal:
    """Whoever holds the token. Services of the platform may act for any project.

    Raises:
        Unauthorized: there is no token, or it is not a valid key.
    """
    if token is None:
        raise Unauthorized(
            "The request carries no API key.",
            hint="Send `Authorization: Bearer <key>`; `mt up` keeps the key in its data directory, in `api_key`.",
        )
    if hmac.compare_digest(token.encode(), settings.internal_token.get_secret_value().encode()):
        return Principal(project or DEFAULT_PROJECT, ALL_SCOPES)
    key = repository.find_key(session, key_digest(token, settings.key_pepper.get_secret_value()))
    if key is None:
        raise Unauthorized("The API key is not known, has expired or was revoked.", hint="Check MT_API_KEY.")
    return Principal(key.project_id, frozenset(key.scopes))
