"""Uploads: streamed to disk, hashed, checked row by row, and only then known to the platform."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sqlalchemy.orm import Session

from libs.common.db.tables import FileRow
from libs.common.errors import Conflict, InvalidFile, InvalidInput, NotFound, TooLarge, Unavailable
from libs.common.files import file_path
from libs.common.ids import new_id
from model_training.contracts.base import Deleted, Page
from model_training.contracts.files import FileObject, FilePurpose, FileReport
from model_training.datasets.validation import check_file
from services.gateway import repository
from services.gateway.domain import Principal

BLOCK = 1 << 20


@dataclass(frozen=True)
class Stored:
    """Bytes that lie in a temporary file. `bytes` is their number."""

    path: Path
    sha256: str
    bytes: int


class FileService:
    """Files of all projects, below one data directory."""

    def __init__(self, home: Path, max_bytes: int) -> None:
        self._home = home
        self._max_bytes = max_bytes

    def upload(
        self, session: Session, principal: Principal, stream: BinaryIO, filename: str, purpose: FilePurpose
    ) -> FileObject:
        """Store a file whose every row is sound.

        Raises:
            TooLarge: it has more bytes than allowed.
            InvalidFile: some rows cannot be used; they are named.
        """
        stored = self._receive(stream)
        try:
            report = check_file(stored.path, purpose)
            _refuse_faults(filename, purpose, report)
            os.replace(stored.path, file_path(self._home, stored.sha256))
        finally:
            stored.path.unlink(missing_ok=True)
        row = FileRow(
            id=new_id("file"),
            project_id=principal.project_id,
            filename=Path(filename).name or "upload",
            purpose=purpose.value,
            bytes=stored.bytes,
            sha256=stored.sha256,
            report=report.model_dump(mode="json"),
        )
        session.add(row)
        session.flush()
        session.refresh(row)
        return describe(row)

    def _receive(self, stream: BinaryIO) -> Stored:
        directory = self._home / "files"
        directory.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        size = 0
        handle, name = tempfile.mkstemp(prefix=".upload-", dir=directory)
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                while block := stream.read(BLOCK):
                    size += len(block)
                    if size > self._max_bytes:
                        raise TooLarge(f"The file has more than {self._max_bytes} bytes.", param="file")
                    digest.update(block)
                    out.write(block)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise Unavailable(
                f"The file could not be stored: {error.strerror}.", hint="Free some disk space."
            ) from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Stored(path, digest.hexdigest(), size)

    def delete(self, session: Session, principal: Principal, file_id: str) -> Deleted:
        """Forget a file.

        Raises:
            Conflict: an unfinished job needs it.
        """
        row = require(session, principal, file_id)
        job = repository.job_using_file(session, principal.project_id, file_id)
        if job is not None:
            raise Conflict(
                f"File {file_id} is in use by job {job}.", param="id", hint="Cancel the job or wait for it."
            )
        session.delete(row)
        session.flush()
        if not repository.content_is_used(session, row.sha256):
            file_path(self._home, row.sha256).unlink(missing_ok=True)
        return Deleted(id=file_id, object="file")

    def path(self, session: Session, principal: Principal, file_id: str) -> Path:
        """Where the bytes of a file lie."""
        return file_path(self._home, require(session, principal, file_id).sha256)


def require(
    session: Session, principal: Principal, file_id: str, purpose: FilePurpose | None = None
) -> FileRow:
    """A file of the project.

    Raises:
        NotFound: there is none of that id.
        InvalidInput: it is there for another purpose.
    """
    row = repository.get(session, FileRow, principal.project_id, file_id)
    if row is None:
        raise NotFound(f"There is no file {file_id!r}.", param="file", hint="List them with `mt files list`.")
    if purpose is not None and row.purpose != purpose.value:
        raise InvalidInput(
            f"File {file_id} was uploaded for {row.purpose!r}, and {purpose.value!r} is needed here.",
            param="file",
            hint=f"Upload it again with purpose={purpose.value}.",
        )
    return row


def list_files(
    session: Session, principal: Principal, after: str | None, limit: int, purpose: FilePurpose | None
) -> Page[FileObject]:
    """Files of the project, newest first."""
    where = [FileRow.purpose == purpose.value] if purpose else []
    rows, more = repository.page(
        session, FileRow, principal.project_id, after=after, limit=limit, where=where
    )
    data = [describe(row) for row in rows]
    return Page(data=data, first_id=_id(data, 0), last_id=_id(data, -1), has_more=more)


def describe(row: FileRow) -> FileObject:
    """A file as the API shows it."""
    return FileObject(
        id=row.id,
        bytes=row.bytes,
        created_at=int(row.created_at.timestamp()),
        filename=row.filename,
        purpose=FilePurpose(row.purpose),
        sha256=row.sha256,
    )


def _id(data: list[FileObject], position: int) -> str | None:
    return data[position].id if data else None


def _refuse_faults(filename: str, purpose: FilePurpose, report: FileReport) -> None:
    if report.fault_count == 0 and report.rows > 0:
        return
    if report.rows == 0 and report.fault_count == 0:
        raise InvalidFile(f"{filename} has no rows.", param="file", hint="Write one JSON object a line.")
    first = report.faults[0]
    field = f", field {first.field}" if first.field else ""
    raise InvalidFile(
        f"{report.fault_count} of {report.rows} rows of {filename} cannot be used; "
        f"the first is row {first.row}{field}: {first.message}",
        param="file",
        hint=f"`mt dataset check {filename} --purpose {purpose.value}` lists them all.",
        rows=report.faults,
    )
