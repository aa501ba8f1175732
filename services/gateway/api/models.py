"""`/v1/models`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, UploadFile

from model_training.contracts.base import Page
from model_training.contracts.models import ModelObject
from services.gateway.api.dependencies import Parts, Reader, Submitter
from services.gateway.service import models

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("", summary="List models")
def list_models(gateway: Parts, who: Reader) -> Page[ModelObject]:
    """Tuned models, newest first, then the bases that are on this machine."""
    with gateway.database.session() as session:
        return models.list_models(session, who, gateway.settings.model_dir)


@router.get("/{model}", summary="Retrieve a model")
def get_model(gateway: Parts, who: Reader, model: str) -> ModelObject:
    """One model with its lineage."""
    with gateway.database.session() as session:
        return models.get(session, who, gateway.settings.model_dir, model)


@router.post("/import", summary="Bring in an adapter")
def import_model(
    gateway: Parts,
    who: Submitter,
    files: Annotated[list[UploadFile], File(description="The files of a folder that PEFT saved.")],
) -> ModelObject:
    """Make a model of a LoRA adapter that was trained elsewhere. Safetensors only; pickles are refused."""
    uploads = [models.Upload(file.filename or "", file.file) for file in files]
    with gateway.database.session() as session:
        return models.import_adapter(session, who, gateway.artifacts, uploads)
