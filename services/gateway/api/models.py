"""`/v1/models`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Path, Response, UploadFile

from model_training.contracts.base import Deleted, Page
from model_training.contracts.models import CHAMPION, AliasChange, ModelAlias, ModelObject
from services.gateway.api.dependencies import (
    After,
    AfterVersion,
    IdempotencyKey,
    IfMatch,
    Limit,
    ModelId,
    Parts,
    Reader,
    Submitter,
)
from services.gateway.service import aliases, models
from services.gateway.service.versions import etag

router = APIRouter(prefix="/v1/models", tags=["models"])
Alias = Annotated[Literal["champion"], Path(description="The alias.", examples=[CHAMPION])]


@router.get("", summary="List models")
def list_models(gateway: Parts, who: Reader, after: After = None, limit: Limit = 1000) -> Page[ModelObject]:
    """Tuned models, newest first, then the bases that are on this machine."""
    with gateway.database.session() as session:
        return models.list_models(session, who, gateway.settings.model_dir, after, limit)


@router.get("/{model}", summary="Retrieve a model")
def get_model(gateway: Parts, who: Reader, model: ModelId) -> ModelObject:
    """One model with its lineage. `champion` is the one that the alias points to."""
    with gateway.database.session() as session:
        return models.get(session, who, gateway.settings.model_dir, model)


@router.delete("/{model}", summary="Delete a model")
def delete_model(gateway: Parts, who: Submitter, model: ModelId) -> Deleted:
    """Forget a tuned model; refused for a base, for the champion, and while an unfinished job needs it."""
    with gateway.database.session() as session:
        return models.delete(session, who, model)


@router.post("/import", summary="Bring in an adapter", response_model=ModelObject)
def import_model(
    gateway: Parts,
    who: Submitter,
    files: Annotated[
        list[UploadFile],
        File(description="The files of a folder that PEFT saved.", min_length=1, max_length=100),
    ],
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Make a model of a LoRA adapter that was trained elsewhere. Safetensors only; pickles are refused."""
    uploads = [models.Upload(file.filename or "", file.file) for file in files]
    with gateway.database.session() as session:
        return models.import_adapter(session, who, gateway.artifacts, uploads, idempotency_key)


@router.post("/{model}/promote", summary="Promote a model")
def promote(
    gateway: Parts,
    who: Submitter,
    model: ModelId,
    request: AliasChange,
    response: Response,
    if_match: IfMatch = None,
) -> ModelAlias:
    """Let the alias `champion` point at a model, alone or behind an index. Before the first promotion its ETag is `"0"`."""
    with gateway.database.session() as session:
        alias = aliases.promote(session, who, model, request, if_match)
    response.headers["ETag"] = etag(alias.version)
    return alias


@router.post("/{alias}/rollback", summary="Roll back the champion")
def rollback(
    gateway: Parts,
    who: Submitter,
    alias: Alias,
    request: AliasChange,
    response: Response,
    if_match: IfMatch = None,
) -> ModelAlias:
    """Let the alias point where it did before its last promotion; once more goes back one further."""
    with gateway.database.session() as session:
        moved = aliases.rollback(session, who, alias, request, if_match)
    response.headers["ETag"] = etag(moved.version)
    return moved


@router.get("/{alias}/history", summary="List the champion's moves")
def history(
    gateway: Parts, who: Reader, alias: Alias, after: AfterVersion = None, limit: Limit = 20
) -> Page[ModelAlias]:
    """Where the alias pointed, newest first; the first of them is where it points now, and its version the ETag."""
    with gateway.database.session() as session:
        return aliases.history(session, who, alias, after, limit)
