"""Uploaded files."""

from __future__ import annotations

from pathlib import Path

from model_training.client.transport import Transport
from model_training.contracts.base import Deleted, Page
from model_training.contracts.files import FileObject, FilePurpose, FileReport
from model_training.errors import UserError


class Files:
    """`/v1/files`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(self, path: Path | str, purpose: FilePurpose | str) -> FileObject:
        """Send a file; its rows are checked on arrival.

        Raises:
            UserError: the file cannot be read, or the purpose is none.
            ApiError: rows are faulty; `rows` names them.
        """
        file = Path(path)
        if not file.is_file():
            raise UserError(f"{file} is not a file.", hint="Give the path of a JSON Lines file.")
        wanted = as_purpose(purpose)
        try:
            return self._transport.upload(
                FileObject, "/v1/files", [("file", file)], {"purpose": wanted.value}
            )
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror}.") from error

    def list(
        self, *, purpose: FilePurpose | str | None = None, after: str | None = None, limit: int = 100
    ) -> Page[FileObject]:
        """One page, newest first."""
        wanted = as_purpose(purpose).value if purpose else None
        params = {"purpose": wanted, "after": after, "limit": limit}
        return self._transport.get(Page[FileObject], "/v1/files", params)

    def get(self, file_id: str) -> FileObject:
        """One file's description."""
        return self._transport.get(FileObject, f"/v1/files/{file_id}")

    def content(self, file_id: str) -> bytes:
        """One file's bytes."""
        return self._transport.request("GET", f"/v1/files/{file_id}/content").content

    def download(self, file_id: str, path: Path) -> None:
        """Write one file's bytes to a path as they come, however many they are.

        Raises:
            ConnectionFailed: the connection broke; the path holds a part then.
        """
        self._transport.save(f"/v1/files/{file_id}/content", path)

    def report(self, file_id: str) -> FileReport:
        """What the check of its rows found."""
        return self._transport.get(FileReport, f"/v1/files/{file_id}/report")

    def delete(self, file_id: str) -> Deleted:
        """Remove a file; refused while a job uses it."""
        return self._transport.delete(Deleted, f"/v1/files/{file_id}")


def as_purpose(purpose: FilePurpose | str) -> FilePurpose:
    """The purpose of a name.

    Raises:
        UserError: there is no such purpose.
    """
    try:
        return FilePurpose(purpose)
    except ValueError as error:
        known = ", ".join(p.value for p in FilePurpose)
        raise UserError(f"purpose {purpose!r} is none.", hint=f"Choose one of {known}.") from error
