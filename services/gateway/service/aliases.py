"""The alias `champion`: to which model it points, moving it, and moving it back. Every move is kept."""

from __future__ import annotations

from sqlalchemy.orm import Session

from libs.common.db.tables import ModelAliasRow, ModelRow
from libs.common.errors import Conflict, InvalidInput, NotFound
from model_training.contracts.base import Page
from model_training.contracts.models import CHAMPION, AliasChange, ModelAlias
from services.gateway import repository
from services.gateway.domain import Principal
from services.gateway.service import models
from services.gateway.service.versions import require_match


def get(session: Session, principal: Principal, alias: str) -> ModelAlias:
    """Where an alias points.

    Raises:
        NotFound: it points nowhere yet.
    """
    return describe(_require(session, principal, alias))


def history(
    session: Session, principal: Principal, alias: str, before: int | None, limit: int
) -> Page[ModelAlias]:
    """Moves of an alias, newest first."""
    rows = repository.alias_history(session, principal.project_id, alias, before, limit + 1)
    data = [describe(row) for row in rows[:limit]]
    return Page(
        data=data,
        first_id=str(data[0].version) if data else None,
        last_id=str(data[-1].version) if data else None,
        has_more=len(rows) > limit,
    )


def promote(
    session: Session, principal: Principal, model: str, request: AliasChange, if_match: str | None
) -> ModelAlias:
    """Let `champion` point at a model.

    Raises:
        NotFound: there is no such model.
        Conflict: the model was refused by inference.
        VersionRequired, StaleVersion: the move is not based on the present version.
    """
    if model == CHAMPION:
        raise InvalidInput("The champion cannot be promoted to itself.", param="model")
    parsed = models.require(session, principal, model)
    row = repository.get(session, ModelRow, principal.project_id, parsed.model)
    if row is not None and row.state == "refused":
        raise Conflict(
            f"Model {parsed.model} was refused: it does not answer as its trainer recorded.",
            param="model",
            hint="Promote another model.",
        )
    last = _locked(session, principal, if_match)
    return _move(session, principal, last, model, request.reason, None)


def rollback(
    session: Session, principal: Principal, alias: str, request: AliasChange, if_match: str | None
) -> ModelAlias:
    """Let the alias point where it did before its last promotion. Rolling back again goes back further.

    Raises:
        NotFound: there is no such alias.
        Conflict: there is nothing to go back to, or the model before is gone.
        VersionRequired, StaleVersion: the move is not based on the present version.
    """
    _require(session, principal, alias)
    last = _locked(session, principal, if_match)
    assert last is not None
    before = (last.restores or last.version) - 1
    # What a rollback restored stands for the version that it went back to.
    earlier = repository.alias_version(session, principal.project_id, alias, before)
    while earlier is not None and earlier.restores is not None:
        earlier = repository.alias_version(session, principal.project_id, alias, earlier.restores)
    if earlier is None:
        raise Conflict(f"{alias} has no earlier model.", param="alias", hint="Promote another model.")
    try:
        models.require(session, principal, earlier.model)
    except NotFound as error:
        raise Conflict(
            f"The model before, {earlier.model}, is gone.", param="alias", hint="Promote another model."
        ) from error
    return _move(session, principal, last, earlier.model, request.reason, earlier.version)


def _require(session: Session, principal: Principal, alias: str) -> ModelAliasRow:
    row = repository.newest_alias(session, principal.project_id, alias)
    if row is None:
        raise NotFound(
            f"There is no alias {alias!r} yet.", param="alias", hint="POST /v1/models/{model}/promote."
        )
    return row


def _locked(session: Session, principal: Principal, if_match: str | None) -> ModelAliasRow | None:
    repository.lock_name(session, f"alias/{principal.project_id}/{CHAMPION}")
    last = repository.newest_alias(session, principal.project_id, CHAMPION)
    require_match(if_match, last.version if last else 0, f"alias {CHAMPION}")
    return last


def _move(
    session: Session,
    principal: Principal,
    last: ModelAliasRow | None,
    model: str,
    reason: str,
    restores: int | None,
) -> ModelAlias:
    row = ModelAliasRow(
        project_id=principal.project_id,
        alias=CHAMPION,
        version=(last.version if last else 0) + 1,
        model=model,
        restores=restores,
        changed_by=principal.name,
        reason=reason,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return describe(row)


def describe(row: ModelAliasRow) -> ModelAlias:
    """A move as the API shows it."""
    return ModelAlias(
        alias=row.alias,
        model=row.model,
        version=row.version,
        restores=row.restores,
        changed_by=row.changed_by,
        reason=row.reason,
        created_at=row.created_at,
    )
