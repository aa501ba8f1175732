"""`/v1/audit`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from model_training.contracts.audit import AuditEntry
from model_training.contracts.base import Page
from services.gateway.api.dependencies import Admin, After, Limit, Parts
from services.gateway.service import audit

router = APIRouter(prefix="/v1/audit", tags=["audit"])


def _only(what: str, example: str) -> object:
    return Query(
        description=f"Only entries {what}.", max_length=200, pattern=r"^[A-Za-z0-9_./-]+$", examples=[example]
    )


@router.get("", summary="List who changed what")
def list_entries(
    gateway: Parts,
    who: Admin,
    after: After = None,
    limit: Limit = 100,
    actor: Annotated[str | None, _only("of this key", "key_01k9zq3v5c")] = None,
    action: Annotated[str | None, _only("of this kind", "api_key.created")] = None,
    target: Annotated[str | None, _only("about this", "model_01k9zq3v5c")] = None,
    project: Annotated[str | None, _only("of this project's keys", "proj_default")] = None,
) -> Page[AuditEntry]:
    """Every change that a key made, newest first, in all projects. Nothing is ever taken out of the log."""
    where = {"actor": actor, "action": action, "target": target, "project_id": project}
    with gateway.database.session() as session:
        return audit.list_page(session, after, limit, where)
