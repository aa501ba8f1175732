"""Data on this machine that a job needs: find the files, join a folder's files to one, upload it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from model_training.client.client import Client
from model_training.client.errors import ApiError
from model_training.contracts.files import FileObject, FilePurpose
from model_training.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
"""Where `data/` lies in a clone; the defaults of the configurations mean it when the working directory has none."""


@dataclass(frozen=True)
class Part:
    """One file of a joined one. Rows count from 1; `first_row` is its first row in the joined file."""

    path: Path
    first_row: int


def data_files(path: Path | str, field: str) -> list[Path]:
    """The JSON Lines files that a path means: itself, or those of a folder in the order of their names.

    Args:
        field: the setting that named the path, for the complaint.

    Raises:
        UserError: there is nothing, or no `.jsonl` file in the folder.
    """
    given = Path(path).expanduser()
    found = given if given.exists() or given.is_absolute() else REPOSITORY / given
    if found.is_dir():
        files = sorted(found.glob("*.jsonl"))
        if not files:
            raise UserError(
                f"{field} = {str(path)!r}: the folder {found} holds no .jsonl file.",
                hint="Put one JSON object a line into files that end in .jsonl.",
            )
        return files
    if not found.is_file():
        raise UserError(
            f"{field} = {str(path)!r}: there is no such file or folder.",
            hint=f"Set {field} to a .jsonl file, or to a folder with such files.",
        )
    return [found]


def upload_data(client: Client, path: Path | str, purpose: FilePurpose, *, field: str) -> FileObject:
    """Upload what a path means as one file.

    Raises:
        UserError: there is nothing at the path, or rows are faulty; the file and its row are named.
    """
    files = data_files(path, field)
    if len(files) == 1:
        return client.files.upload(files[0], purpose)
    with tempfile.TemporaryDirectory(prefix="mt-upload-") as directory:
        joined = Path(directory) / f"{files[0].parent.name}.jsonl"
        parts = _join(files, joined)
        try:
            return client.files.upload(joined, purpose)
        except ApiError as error:
            if not error.rows:
                raise
            raise UserError(_complaint(error, parts), hint=error.hint) from error


def _join(files: list[Path], joined: Path) -> list[Part]:
    parts: list[Part] = []
    row = 1
    with joined.open("wb") as out:
        for path in files:
            parts.append(Part(path, row))
            content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
            if content and not content.endswith(b"\n"):
                content += b"\n"
            out.write(content)
            row += content.count(b"\n")
    return parts


def _complaint(error: ApiError, parts: list[Part]) -> str:
    first = error.rows[0]
    part = max((p for p in parts if p.first_row <= first.row), key=lambda p: p.first_row)
    field = f", field {first.field}" if first.field else ""
    more = f" ({len(error.rows)} rows cannot be used in all)" if len(error.rows) > 1 else ""
    return f"{part.path}, row {first.row - part.first_row + 1}{field}: {first.message}{more}"
