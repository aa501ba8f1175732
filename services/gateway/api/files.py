"""`/v1/files`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, UploadFile
from fastapi.responses import FileResponse

from libs.common.runtime_config import Limits
from model_training.contracts.base import Deleted, Page
from model_training.contracts.files import FileObject, FilePurpose, FileReport
from services.gateway.api.dependencies import After, FileId, IdempotencyKey, Limit, Parts, Reader, Submitter
from services.gateway.service import files

router = APIRouter(prefix="/v1/files", tags=["files"])


@router.post("", summary="Upload a file", response_model=FileObject)
def upload(
    gateway: Parts,
    who: Submitter,
    file: Annotated[UploadFile, File(description="JSON lines, UTF-8.")],
    purpose: Annotated[
        FilePurpose, Form(description="What the file is for; it decides how rows are checked.")
    ],
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Store a file. Every row is checked; a file with a faulty row is refused, and the rows are named."""
    sent = files.Upload(file.file, file.filename or "", purpose)
    max_rows = gateway.config.read(Limits).max_file_rows
    return gateway.files.upload(gateway.database, who, sent, idempotency_key, max_rows)


@router.get("", summary="List files")
def list_files(
    gateway: Parts,
    who: Reader,
    after: After = None,
    limit: Limit = 20,
    purpose: Annotated[FilePurpose | None, Query(description="Only files for this.")] = None,
) -> Page[FileObject]:
    """Files of the project, newest first."""
    with gateway.database.session() as session:
        return files.list_files(session, who, after, limit, purpose)


@router.get("/{file_id}", summary="Retrieve a file")
def get_file(gateway: Parts, who: Reader, file_id: FileId) -> FileObject:
    """One file's name, size and hash."""
    with gateway.database.session() as session:
        return files.describe(files.require(session, who, file_id))


@router.get(
    "/{file_id}/content",
    summary="Download a file",
    response_class=FileResponse,
    responses={
        200: {
            "content": {
                "application/jsonl": {
                    "schema": {"type": "string"},
                    "example": '{"question": "What is 1 + 1?", "answer": "2"}\n',
                }
            },
            "description": "The file.",
        }
    },
)
def get_content(gateway: Parts, who: Reader, file_id: FileId) -> FileResponse:
    """The very bytes that were uploaded."""
    with gateway.database.session() as session:
        row = files.require(session, who, file_id)
        path = gateway.files.path(session, who, file_id)
    return FileResponse(path, media_type="application/jsonl", filename=row.filename)


@router.get("/{file_id}/report", summary="Read what the check found")
def get_report(gateway: Parts, who: Reader, file_id: FileId) -> FileReport:
    """Rows, kinds, characters and duplicates."""
    with gateway.database.session() as session:
        return FileReport.model_validate(files.require(session, who, file_id).report)


@router.delete("/{file_id}", summary="Delete a file")
def delete_file(gateway: Parts, who: Submitter, file_id: FileId) -> Deleted:
    """Forget a file; refused while an unfinished job needs it."""
    with gateway.database.session() as session:
        return gateway.files.delete(session, who, file_id)
