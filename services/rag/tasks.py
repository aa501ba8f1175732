"""The job kind `index`: file ids become paths for the child, and what the child leaves becomes a searchable index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from libs.common.db.tables import IndexRow, JobRow
from libs.common.errors import InvalidInput, NotFound
from libs.common.files import file_path
from model_training.contracts.files import FilePurpose
from model_training.contracts.indexes import IndexCreate
from model_training.contracts.jobs import JobKind
from services.rag import repository
from services.rag.ports import VectorStore
from services.rag.settings import RagSettings
from services.rag.vectors import read_vectors, remove_vectors


class IndexHandler:
    """Builds indexes. Only this process writes vectors; a failed or repeated build leaves none half-written."""

    kind = JobKind.INDEX
    child_module = "services.rag.child"

    def __init__(self, settings: RagSettings, store: VectorStore) -> None:
        self._settings = settings
        self._store = store

    def prepare(self, session: Session, job: JobRow) -> dict[str, Any]:
        """The child's order: where the files lie and how to embed.

        Raises:
            NotFound: a file is not there.
            InvalidInput: a file was uploaded for something else.
        """
        wanted = IndexCreate.model_validate(job.spec)
        known = repository.find_files(session, job.project_id, wanted.files)
        files: list[dict[str, str]] = []
        for file_id in wanted.files:
            row = known.get(file_id)
            path = file_path(self._settings.home, row.sha256) if row else None
            if row is None or path is None or not path.exists():
                raise NotFound(
                    f"There is no file {file_id!r}.",
                    param="files",
                    hint="Upload it with purpose `chunks` first.",
                )
            if row.purpose != FilePurpose.CHUNKS.value:
                raise InvalidInput(
                    f"File {file_id} ({row.filename}) was uploaded with purpose {row.purpose!r}.",
                    param="files",
                    hint="Upload it again with purpose `chunks`.",
                )
            files.append({"path": str(path), "filename": row.filename, "sha256": row.sha256})
        return {
            "files": files,
            "embedder": wanted.embedder,
            "threads": self._settings.rag_threads,
            "batch_size": self._settings.rag_batch_size,
        }

    def store(self, session: Session, job: JobRow, name: str, data: dict[str, Any]) -> None:
        """An indexing child hands over everything at its end, nothing in between."""
        raise AssertionError(f"unexpected output {name!r}")

    def finish(self, session: Session, job: JobRow, result: dict[str, Any]) -> dict[str, Any]:
        """Store the vectors and publish the index. Its name leads to it when this transaction commits."""
        stamp: dict[str, Any] = result["stamp"]
        chunks = self._store.build(job.id, read_vectors(self._workdir(job.id)), stamp)
        name: str = job.spec["name"]
        repository.save_index(
            session, IndexRow(id=job.id, project_id=job.project_id, name=name, chunks=chunks, stamp=stamp)
        )
        remove_vectors(self._workdir(job.id))
        return {
            "index": job.id,
            "name": name,
            "chunks": chunks,
            "dimension": stamp["embedder"]["dimension"],
            "seconds": result["seconds"],
            "stamp": stamp,
        }

    def _workdir(self, job_id: str) -> Path:
        return self._settings.home / "jobs" / job_id
