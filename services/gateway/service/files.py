"""Uploads: streamed to disk, hashed, checked row by row, and only then known to the platform."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import FileRow
from libs.common.errors import Conflict, InvalidFile, InvalidInput, NotFound, TooLarge, Unavailable
from libs.common.files import file_path
from libs.common.ids import new_id
from model_training.contracts.base import Deleted, Page, plain_text
from model_training.contracts.files import FileObject, FilePurpose, FileReport
from model_training.datasets.validation import check_file
from services.gateway import repository
from services.gateway.domain import Principal
from services.gateway.service import idempotency, quotas

BLOCK = 1 << 20
MAX_FILENAME = 255
DAY_S = 24 * 3600
ROUTE = "/v1/files"


@dataclass(frozen=True)
class Upload:
    """What a client sends."""

    stream: BinaryIO
    filename: str
    purpose: FilePurpose


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

    def sweep(self) -> None:
        """Remove what uploads left behind whose process was killed a day ago or earlier."""
        for path in (self._home / "files").glob(".upload-*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - DAY_S:
                    path.unlink()

    def upload(
        self, database: Database, principal: Principal, upload: Upload, key: str | None, max_rows: int
    ) -> dict[str, Any]:
        """Store a file whose every row is sound. No transaction is open while its bytes arrive and are checked.

        Raises:
            TooLarge: it has more bytes or lines than allowed.
            InvalidFile: some rows cannot be used; they are named.
            QuotaExceeded: the project has no room for it.
            Conflict: the idempotency key was used for another request.
        """
        refuse_path(upload.filename)
        with database.session() as session:
            most = quotas.room_of(session, principal.project_id).limit(self._max_bytes)
        stored = self._receive(upload.stream, most, max_rows)
        body = {"sha256": stored.sha256, "filename": upload.filename, "purpose": upload.purpose.value}
        try:
            with database.session() as session:
                answer = idempotency.find(session, principal, key, ROUTE, body)
            if answer is not None:
                return answer
            report = check_file(stored.path, upload.purpose)
            _refuse_faults(upload.filename, upload.purpose, report)
            with database.session() as session:
                create = partial(self._keep, session, principal, upload, stored, report)
                return idempotency.once(session, principal, key, ROUTE, body, create)
        finally:
            stored.path.unlink(missing_ok=True)

    def _keep(
        self, session: Session, principal: Principal, upload: Upload, stored: Stored, report: FileReport
    ) -> FileObject:
        repository.lock_name(session, f"content/{stored.sha256}")
        quotas.admit_file(session, principal.project_id, stored.bytes)
        row = FileRow(
            id=new_id("file"),
            project_id=principal.project_id,
            filename=upload.filename,
            purpose=upload.purpose.value,
            bytes=stored.bytes,
            sha256=stored.sha256,
            report=report.model_dump(mode="json"),
        )
        session.add(row)
        session.flush()
        session.refresh(row)
        os.replace(stored.path, file_path(self._home, stored.sha256))
        return describe(row)

    def _receive(self, stream: BinaryIO, most: int, max_rows: int) -> Stored:
        directory = self._home / "files"
        directory.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        size = lines = 0
        handle, name = tempfile.mkstemp(prefix=".upload-", dir=directory)
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                while block := stream.read(BLOCK):
                    size += len(block)
                    lines += block.count(b"\n")
                    if size > most:
                        raise TooLarge(f"The file has more than {most} bytes.", param="file")
                    if lines > max_rows:
                        raise TooLarge(
                            f"The file has more than {max_rows} lines.",
                            param="file",
                            hint="Cut it into several.",
                        )
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
        job = repository.job_using(session, principal.project_id, file_id)
        if job is not None:
            raise Conflict(
                f"File {file_id} is in use by job {job}.", param="id", hint="Cancel the job or wait for it."
            )
        repository.lock_name(session, f"content/{row.sha256}")
        session.delete(row)
        session.flush()
        if not repository.content_is_used(session, row.sha256):
            file_path(self._home, row.sha256).unlink(missing_ok=True)
        return Deleted(id=file_id, object="file")

    def path(self, session: Session, principal: Principal, file_id: str) -> Path:
        """Where the bytes of a file lie."""
        return file_path(self._home, require(session, principal, file_id).sha256)


def require(
    session: Session,
    principal: Principal,
    file_id: str,
    purpose: FilePurpose | None = None,
    param: str = "file",
) -> FileRow:
    """A file of the project.

    Raises:
        NotFound: there is none of that id.
        InvalidInput: it is there for another purpose.
    """
    row = repository.get(session, FileRow, principal.project_id, file_id)
    if row is None:
        raise NotFound(f"There is no file {file_id!r}.", param=param, hint="List them with `mt files list`.")
    if purpose is not None and row.purpose != purpose.value:
        raise InvalidInput(
            f"File {file_id} was uploaded for {row.purpose!r}, and {purpose.value!r} is needed here.",
            param=param,
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
    return Page.of([describe(row) for row in rows], more)


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


def refuse_path(filename: str, param: str = "file") -> None:
    """A file's name is only shown, never opened; one that tries to be a path is refused all the same.

    Raises:
        InvalidInput: the name is a path, too long, or holds characters that are not for names.
    """
    reason = None
    if not filename or len(filename) > MAX_FILENAME:
        reason = f"has {len(filename)} characters; 1 to {MAX_FILENAME} are allowed"
    elif filename in (".", "..") or "/" in filename or "\\" in filename:
        reason = "is a path"
    else:
        try:
            plain_text(filename)
        except ValueError as error:
            reason = str(error)
    if reason is not None:
        raise InvalidInput(
            f"The file's name {filename[:100]!r} {reason}.",
            param=param,
            hint="Send a plain name: train.jsonl.",
        )


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
