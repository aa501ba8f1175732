"""Endpoints of others: made known, listed, forgotten, and found when `external:<name>` is asked. Keys are kept encrypted."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy.orm import Session

from libs.common.db.tables import EndpointRow
from libs.common.egress import Egress
from libs.common.errors import Conflict, NotFound
from libs.common.ids import new_id
from model_training.contracts.base import Deleted, Page
from model_training.contracts.endpoints import EXTERNAL_PREFIX, Endpoint, EndpointCreate
from model_training.contracts.prices import Prices
from services.gateway import repository, repository_endpoints
from services.gateway.domain import Principal
from services.gateway.ports import Target


def create(
    session: Session, principal: Principal, request: EndpointCreate, egress: Egress, pepper: str
) -> Endpoint:
    """Make an endpoint known.

    Raises:
        EgressRefused: its address is private, or no address at all.
        Conflict: the name is taken.
    """
    egress.check(request.url, param="url")
    repository.lock_name(session, f"endpoint/{principal.project_id}/{request.name}")
    if repository_endpoints.find(session, principal.project_id, request.name) is not None:
        raise Conflict(
            f"There is an endpoint {request.name!r} already.",
            param="name",
            hint="Delete it first, or choose another name.",
        )
    row = EndpointRow(
        id=new_id("endp"),
        project_id=principal.project_id,
        sealed_key=_seal(request.key.get_secret_value(), pepper) if request.key else None,
        **{**request.model_dump(exclude={"key"}), "url": request.url.rstrip("/")},
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return describe(row)


def list_page(session: Session, principal: Principal, after: str | None, limit: int) -> Page[Endpoint]:
    """A project's endpoints, newest first."""
    rows, more = repository_endpoints.page(session, principal.project_id, after, limit)
    return Page.of([describe(row) for row in rows], more)


def delete(session: Session, principal: Principal, name: str) -> Deleted:
    """Forget an endpoint and its key.

    Raises:
        NotFound: there is none of that name.
        Conflict: an unfinished job needs it.
    """
    row = require(session, principal, name, "name")
    job = repository.job_using(session, principal.project_id, f"{EXTERNAL_PREFIX}{name}")
    if job is not None:
        raise Conflict(
            f"The endpoint {name} is in use by job {job}.",
            param="name",
            hint="Cancel the job or wait for it.",
        )
    session.delete(row)
    return Deleted(id=row.id, object="endpoint")


def require(session: Session, principal: Principal, name: str, param: str = "model") -> EndpointRow:
    """The endpoint of a name.

    Raises:
        NotFound: there is none.
    """
    row = repository_endpoints.find(session, principal.project_id, name)
    if row is None:
        raise NotFound(f"There is no endpoint {name!r}.", param=param, hint="`mt endpoints list` shows them.")
    return row


def target(session: Session, principal: Principal, name: str, pepper: str) -> Target:
    """Where to ask, and with which key.

    Raises:
        NotFound: there is no such endpoint.
        Conflict: its key was encrypted with another secret.
    """
    row = require(session, principal, name)
    key = _unseal(row, pepper) if row.sealed_key is not None else None
    return Target(
        row.name,
        row.url,
        row.model,
        key,
        row.tokens_field,
        row.million_prompt_tokens_usd,
        row.million_completion_tokens_usd,
    )


def prices_of(row: EndpointRow) -> dict[str, Any]:
    """What an endpoint's answers cost: its tokens. The platform's own machine only waits."""
    prices = Prices(
        machine_hour_usd=0.0,
        million_prompt_tokens_usd=row.million_prompt_tokens_usd,
        million_completion_tokens_usd=row.million_completion_tokens_usd,
    )
    return prices.model_dump(mode="json")


def describe(row: EndpointRow) -> Endpoint:
    """An endpoint as the API shows it."""
    shown = {name: getattr(row, name) for name in Endpoint.model_fields if hasattr(row, name)}
    return Endpoint.model_validate({**shown, "has_key": row.sealed_key is not None})


def _cipher(pepper: str) -> Fernet:
    """Encrypts with a secret that only gateways hold: whoever reads the database alone cannot read the keys."""
    secret = hmac.digest(pepper.encode(), b"keys of endpoints", hashlib.sha256)
    return Fernet(base64.urlsafe_b64encode(secret))


def _seal(key: str, pepper: str) -> str:
    return _cipher(pepper).encrypt(key.encode()).decode()


def _unseal(row: EndpointRow, pepper: str) -> str:
    try:
        return _cipher(pepper).decrypt((row.sealed_key or "").encode()).decode()
    except InvalidToken as error:
        raise Conflict(
            f"The key of endpoint {row.name} was encrypted with another MT_KEY_PEPPER and cannot be read.",
            param="model",
            hint="Delete the endpoint and make it known again with its key.",
        ) from error
