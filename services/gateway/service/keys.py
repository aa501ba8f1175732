"""API keys: making, rotating and revoking them. A secret is never stored and shown once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from libs.common.auth import key_digest, new_api_key
from libs.common.db.tables import ApiKeyRow
from libs.common.errors import Conflict, Forbidden, InvalidInput, NotFound
from libs.common.ids import new_id
from model_training.contracts.base import Deleted, Page
from model_training.contracts.keys import ApiKey, ApiKeyCreate, ApiKeyRotate, NewApiKey
from services.gateway import repository, repository_access
from services.gateway.domain import ALL_SCOPES, DEFAULT_PROJECT, Principal
from services.gateway.settings import GatewaySettings

SELF = "self"
"""Stands for the id of the key that asks."""


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
        repository_access.ensure_key(session, key)


def create(session: Session, principal: Principal, request: ApiKeyCreate, pepper: str) -> NewApiKey:
    """Make a key and show its secret.

    Raises:
        Forbidden: the asking key lacks a scope that the new one should have.
        InvalidInput: the expiry makes no sense.
        NotFound: there is no such project.
    """
    _refuse_more(principal, request.scopes, "scopes")
    project = request.project or principal.project_id
    if repository.project(session, project) is None:
        raise NotFound(
            f"There is no project {project!r}.", param="project", hint="GET /v1/projects lists them."
        )
    secret = new_api_key()
    row = ApiKeyRow(
        id=new_id("key"),
        project_id=project,
        name=request.name,
        digest=key_digest(secret, pepper),
        scopes=sorted(set(request.scopes)),
        expires_at=_expiry(request),
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return NewApiKey(**describe(row).model_dump(), key=secret)


def rotate(
    session: Session, principal: Principal, key_id: str, request: ApiKeyRotate, pepper: str
) -> NewApiKey:
    """Give a key a new secret. The old one goes on working for the overlap, so that whoever uses it can change over.

    Raises:
        NotFound: there is none of that id.
        Conflict: it was revoked or has expired.
        Forbidden: it has a scope that the asking key lacks.
    """
    row = repository_access.locked_key(session, _own_if_self(principal, key_id))
    if row is None:
        raise _missing(key_id)
    now = datetime.now(UTC)
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        raise Conflict(f"Key {row.id} has ended.", param="id", hint="Make another one.")
    _refuse_more(principal, row.scopes, "id")
    secret = new_api_key()
    row.old_digests = [*row.old_digests, row.digest]
    row.digest = key_digest(secret, pepper)
    row.overlap_until = now + timedelta(seconds=request.overlap_s)
    repository.tell_of_change(session)
    session.flush()
    return NewApiKey(**describe(row).model_dump(), key=secret)


def _own_if_self(principal: Principal, key_id: str) -> str:
    return principal.key_id or key_id if key_id == SELF else key_id


def _refuse_more(principal: Principal, scopes: Sequence[str], param: str) -> None:
    lacking = sorted(set(scopes) - principal.scopes)
    if lacking:
        raise Forbidden(
            f"The key lacks the scope {lacking[0]!r} and cannot grant it.",
            param=param,
            hint=f"It has: {', '.join(sorted(principal.scopes))}.",
        )


def _missing(key_id: str) -> NotFound:
    return NotFound(f"There is no key {key_id!r}.", param="id", hint="GET /v1/api_keys lists them.")


def _expiry(request: ApiKeyCreate) -> datetime | None:
    if request.expires_in_s is not None:
        if request.expires_at is not None:
            raise InvalidInput(
                "Both expires_at and expires_in_s are given.", param="expires_at", hint="Give one of them."
            )
        return datetime.now(UTC) + timedelta(seconds=request.expires_in_s)
    if request.expires_at is not None and request.expires_at <= datetime.now(UTC):
        raise InvalidInput(
            f"expires_at {request.expires_at.isoformat()} has passed.",
            param="expires_at",
            hint="Give a time in the future.",
        )
    return request.expires_at


def list_keys(
    session: Session, principal: Principal, project: str | None, after: str | None, limit: int
) -> Page[ApiKey]:
    """Keys of a project, revoked ones too, newest first."""
    rows, more = repository.page(
        session, ApiKeyRow, project or principal.project_id, after=after, limit=limit
    )
    data = [describe(row) for row in rows]
    return Page.of(data, more)


def revoke(session: Session, principal: Principal, key_id: str) -> Deleted:
    """End a key for good; ending it twice is no error.

    Raises:
        NotFound: there is none of that id.
        Conflict: it is the key that asks.
    """
    row = session.get(ApiKeyRow, key_id)
    if row is None:
        raise _missing(key_id)
    if row.id == principal.key_id:
        raise Conflict(
            "A key cannot revoke itself.", param="id", hint="Make another one and use it to revoke this."
        )
    row.revoked_at = row.revoked_at or datetime.now(UTC)
    repository.tell_of_change(session)
    return Deleted(id=row.id, object="api_key")


def describe(row: ApiKeyRow) -> ApiKey:
    """A key as the API shows it."""
    return ApiKey(
        id=row.id,
        name=row.name,
        project=row.project_id,
        scopes=row.scopes,  # pyright: ignore[reportArgumentType] (checked when they were stored)
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        overlap_until=row.overlap_until,
    )
