"""The job kind `index`: file ids become paths for the child, and what the child leaves becomes a searchable index."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from libs.common.db.tables import IndexRow, JobRow
from libs.common.errors import Conflict, InvalidInput, NotFound
from libs.common.files import file_path
from model_training.contracts.files import FilePurpose
from model_training.contracts.indexes import IndexCreate
from model_training.contracts.jobs import JobKind
from services.rag import repository
from services.rag.domain.search import near_names
from services.rag.ports import VectorStore
from services.rag.settings import RagSettings
from services.rag.vectors import export_points, read_vectors, remove_vectors

KNOWN = "known"


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
        known = self._export_known(session, job, wanted)
        return {
            "files": files,
            "embedder": wanted.embedder,
            "chunker": known["chunker"] if known and not files else wanted.chunker,
            "known": known,
            "keep": wanted.base is not None,
            "remove": wanted.remove,
            "model_dir": str(self._settings.model_dir),
            "threads": self._settings.rag_threads,
            "batch_size": self._settings.rag_batch_size,
        }

    def _export_known(self, session: Session, job: JobRow, wanted: IndexCreate) -> dict[str, Any] | None:
        """Passages and vectors that need no embedding, for the child: those of the base or of the name's last version.

        Raises:
            NotFound: there is no such base.
            Conflict: the base's passages were cut by another chunker, or embedded by another embedder.
        """
        earlier = repository.find_index(session, job.project_id, wanted.base or wanted.name)
        if earlier is None:
            if wanted.base is None:
                return None
            raise NotFound(
                f"There is no index {wanted.base!r} to start from.",
                param="base",
                hint=near_names(wanted.base, repository.index_names(session, job.project_id)),
            )
        try:
            stamp = self._store.stamp(earlier.id)
        except NotFound:
            if wanted.base is not None:
                raise
            return None  # its vectors are gone; all are made anew
        if wanted.base is not None:
            _refuse_mixture(wanted, stamp)
        directory = self._workdir(job.id) / KNOWN
        directory.mkdir(parents=True, exist_ok=True)
        export_points(directory, self._store.points(earlier.id), stamp["embedder"]["dimension"])
        return {
            "index": earlier.id,
            "directory": str(directory),
            "embedder": stamp["embedder"],
            "chunker": stamp["chunker"],
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
        if (self._workdir(job.id) / KNOWN).exists():
            shutil.rmtree(self._workdir(job.id) / KNOWN)
        return {
            "index": job.id,
            "name": name,
            "chunks": chunks,
            "dimension": stamp["embedder"]["dimension"],
            "embedded": stamp["embedded"],
            "reused": stamp["reused"],
            "removed": result["removed"],
            "seconds": result["seconds"],
            "stamp": stamp,
        }

    def _workdir(self, job_id: str) -> Path:
        return self._settings.home / "jobs" / job_id


def _refuse_mixture(wanted: IndexCreate, stamp: dict[str, Any]) -> None:
    """An index holds passages of one chunker and vectors of one embedder."""
    made_by = stamp["embedder"]["name"]
    if wanted.embedder != made_by:
        raise Conflict(
            f"The index {wanted.base} was embedded by {made_by}, not {wanted.embedder}.",
            param="embedder",
            hint="Name the same embedder, or build a new index from all files.",
        )
    if wanted.files and wanted.chunker != stamp["chunker"]:
        raise Conflict(
            f"The passages of {wanted.base} were cut by {stamp['chunker']!r}, these by {wanted.chunker!r}.",
            param="chunker",
            hint="Cut all of them the same way, or build a new index from all files.",
        )
