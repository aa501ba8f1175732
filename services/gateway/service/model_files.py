"""A tuned model's files as one archive, for taking it elsewhere."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path

from sqlalchemy.orm import Session

from libs.common.artifacts import ArtifactStore
from libs.common.db.tables import ModelRow
from libs.common.errors import NotFound
from services.gateway import repository
from services.gateway.domain import Principal


def artifact_of(session: Session, principal: Principal, name: str) -> str:
    """The artifact of a tuned model.

    Raises:
        NotFound: there is no tuned model of that id.
    """
    row = repository.get(session, ModelRow, principal.project_id, name)
    if row is None:
        raise NotFound(
            f"There is no tuned model {name!r}.",
            param="model",
            hint="Bases come from their makers, not from here.",
        )
    return row.artifact


def archive(artifacts: ArtifactStore, artifact: str) -> Path:
    """A zip file of an artifact, to be removed by the caller. Not compressed: weights hardly shrink.

    Raises:
        NotFound: the store has lost it.
    """
    directory = artifacts.path(artifact)
    handle, name = tempfile.mkstemp(prefix="mt-archive-", suffix=".zip")
    os.close(handle)
    with zipfile.ZipFile(name, "w", zipfile.ZIP_STORED) as out:
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            out.write(path, path.relative_to(directory).as_posix())
    return Path(name)
