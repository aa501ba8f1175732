"""`/v1/models/{model}/archive`: a tuned model's files."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from services.gateway.api.dependencies import ModelId, Parts, Reader
from services.gateway.service import model_files

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get(
    "/{model}/archive",
    summary="Download a tuned model",
    response_class=FileResponse,
    responses={
        200: {
            "content": {
                "application/zip": {"schema": {"type": "string", "format": "binary"}, "example": "PK…"}
            },
            "description": "The adapter's folder as a zip file.",
        }
    },
)
def get_archive(gateway: Parts, who: Reader, model: ModelId) -> FileResponse:
    """The adapter with its settings, lineage and card; of a fully trained model, the whole model."""
    with gateway.database.session() as session:
        artifact = model_files.artifact_of(session, who, model)
    path = model_files.archive(gateway.artifacts, artifact)
    gone = BackgroundTask(path.unlink, missing_ok=True)
    return FileResponse(path, media_type="application/zip", filename=f"{model}.zip", background=gone)
