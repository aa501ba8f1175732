"""`/v1/files`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse

from libs.common.errors import TooLarge
from model_training.contracts.base import Deleted, Page
from model_training.contracts.files import FileObject, FilePurpose, FileReport
from services.gateway.api.dependencies import After, Limit, Parts, Reader, Submitter
from services.gateway.service import files

router = APIRouter(prefix="/v1/files", tags=["files"])


@router.post("", summary="Upload a file")
def upload(
    request: Request,
    gateway: Parts,
    who: Submitter,
    file: Annotated[UploadFile, File(description="JSON lines, UTF-8.")],
    purpose: Annotated[FilePurpose, Form()],
) -> FileObject:
    """Store a file. Every row is checked; a file with a faulty row is refused, and the rows are named."""
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > gateway.settings.max_file_bytes + 10_000:
        raise TooLarge(f"The file has more than {gateway.settings.max_file_bytes} bytes.", param="file")
    with gateway.database.session() as session:
        return gateway.files.upload(session, who, file.file, file.filename or "upload", purpose)


@router.get("", summary="List files")
def list_files(
    gateway: Parts,
    who: Reader,
    after: After = None,
    limit: Limit = 20,
    purpose: Annotated[FilePurpose | None, Query()] = None,
) -> Page[FileObject]:
    """Files of the project, newest first."""
    with gateway.database.session() as session:
        return files.list_files(session, who, after, limit, purpose)


@router.get("/{file_id}", summary="Retrieve a file")
def get_file(gateway: Parts, who: Reader, file_id: str) -> FileObject:
    """One file's name, size and hash."""
    with gateway.database.session() as session:
        return files.describe(files.require(session, who, file_id))


@router.get("/{file_id}/content", summary="Download a file", response_class=FileResponse)
def get_content(gateway: Parts, who: Reader, file_id: str) -> FileResponse:
    """The very bytes that were uploaded."""
    with gateway.database.session() as session:
        row = files.require(session, who, file_id)
        path = gateway.files.path(session, who, file_id)
    return FileResponse(path, media_type="application/jsonl", filename=row.filename)


@router.get("/{file_id}/report", summary="Read what the check found")
def get_report(gateway: Parts, who: Reader, file_id: str) -> FileReport:
    """Rows, kinds, characters and duplicates."""
    with gateway.database.session() as session:
        return FileReport.model_validate(files.require(session, who, file_id).report)


@router.delete("/{file_id}", summary="Delete a file")
def delete_file(gateway: Parts, who: Submitter, file_id: str) -> Deleted:
    """Forget a file; refused while an unfinished job needs it."""
    with gateway.database.session() as session:
        return gateway.files.delete(session, who, file_id)
