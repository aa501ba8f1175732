"""Models: which there are, whether a name means one of them, and bringing in an adapter from outside."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sqlalchemy.orm import Session

from libs.common.artifacts import ArtifactStore, directory_bytes
from libs.common.db.tables import ArtifactRow, ModelRow
from libs.common.errors import InvalidInput, NotFound
from libs.common.ids import new_id
from model_training.config.catalogue import CATALOGUE, CatalogueEntry
from model_training.contracts.base import Page
from model_training.contracts.models import ModelObject
from services.gateway import repository
from services.gateway.domain import ModelName, Principal, parse_model_name

IMPORTABLE = (".json", ".safetensors", ".md", ".png", ".svg")


@dataclass(frozen=True)
class Upload:
    """One file of an imported adapter."""

    name: str
    stream: BinaryIO


def require(session: Session, principal: Principal, name: str, param: str = "model") -> ModelName:
    """Take a model's name apart and check that each part exists.

    Raises:
        InvalidInput: the name has no sense.
        NotFound: there is no such base, tuned model or index.
    """
    try:
        parsed = parse_model_name(name)
    except ValueError as error:
        raise InvalidInput(f"{error}.", param=param) from error
    if parsed.is_tuned:
        if repository.get(session, ModelRow, principal.project_id, parsed.model) is None:
            raise NotFound(
                f"There is no model {parsed.model!r}.", param=param, hint="`mt models list` shows them."
            )
    elif parsed.model not in CATALOGUE:
        raise NotFound(
            f"There is no model {parsed.model!r}.", param=param, hint=f"Bases: {', '.join(CATALOGUE)}."
        )
    if parsed.index and repository.newest_index(session, principal.project_id, parsed.index) is None:
        raise NotFound(
            f"There is no finished index {parsed.index!r}.", param=param, hint="`mt jobs list --kind index`."
        )
    return parsed


def list_models(session: Session, principal: Principal, model_dir: Path) -> Page[ModelObject]:
    """The bases that are on this machine and every tuned model, newest first."""
    rows, _ = repository.page(session, ModelRow, principal.project_id, after=None, limit=1000)
    data = [describe(row) for row in rows] + [base for name in CATALOGUE if (base := _base(name, model_dir))]
    return Page(data=data, first_id=data[0].id if data else None, last_id=data[-1].id if data else None)


def get(session: Session, principal: Principal, model_dir: Path, name: str) -> ModelObject:
    """One model.

    Raises:
        NotFound: there is none of that name.
    """
    row = repository.get(session, ModelRow, principal.project_id, name)
    found = describe(row) if row is not None else (_base(name, model_dir) if name in CATALOGUE else None)
    if found is None:
        raise NotFound(
            f"There is no model {name!r} here.", param="model", hint="`mt models list` shows them."
        )
    return found


def _base(name: str, model_dir: Path) -> ModelObject | None:
    config = model_dir / name / "config.json"
    if not config.is_file():
        return None
    entry = CATALOGUE[name]
    return ModelObject(
        id=name,
        created=int(config.stat().st_mtime),
        owned_by="google",
        lineage={"hub_id": entry.hub_id, "licence": entry.licence},
    )


def describe(row: ModelRow) -> ModelObject:
    """A tuned model as the API shows it."""
    return ModelObject(
        id=row.id,
        created=int(row.created_at.timestamp()),
        root=row.base,
        state=row.state,  # pyright: ignore[reportArgumentType]
        job_id=row.job_id,
        artifact=row.artifact,
        metrics={k: v for k, v in row.metrics.items() if isinstance(v, int | float)},
        lineage={**row.lineage, **({"gate": row.gate} if row.gate else {})},
    )


def import_adapter(
    session: Session, principal: Principal, artifacts: ArtifactStore, uploads: Sequence[Upload]
) -> ModelObject:
    """Store the files of a LoRA adapter as an artifact and make a model of it.

    Raises:
        InvalidInput: a file is missing or of a kind that is not taken (pickles never are), or the base is unknown.
    """
    with tempfile.TemporaryDirectory(prefix="import-") as name:
        directory = Path(name)
        for upload in uploads:
            _save(upload, directory)
        base = _base_of(directory)
        artifact = artifacts.commit(directory)
        size = directory_bytes(directory)
    repository.add_artifact(session, ArtifactRow(sha256=artifact, kind="adapter", bytes=size, job_id=None))
    row = ModelRow(
        id=new_id("model"),
        project_id=principal.project_id,
        base=base.name,
        artifact=artifact,
        state="pending",
        metrics={},
        lineage={"imported": True},
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return describe(row)


def _save(upload: Upload, directory: Path) -> None:
    name = Path(upload.name).name
    if Path(name).suffix not in IMPORTABLE:
        raise InvalidInput(
            f"{name!r} is not taken.", param="files", hint=f"Files may end in {', '.join(IMPORTABLE)}."
        )
    with (directory / name).open("wb") as out:
        shutil.copyfileobj(upload.stream, out)


def _base_of(directory: Path) -> CatalogueEntry:
    missing = [
        n for n in ("adapter_config.json", "adapter_model.safetensors") if not (directory / n).is_file()
    ]
    if missing:
        raise InvalidInput(
            f"The adapter lacks {' and '.join(missing)}.",
            param="files",
            hint="Give a folder that PEFT saved.",
        )
    try:
        named = json.loads((directory / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput("adapter_config.json names no base model.", param="files") from error
    for entry in CATALOGUE.values():
        if named in (entry.name, entry.hub_id):
            return entry
    raise InvalidInput(
        f"The adapter's base {named!r} is not in the catalogue.",
        param="files",
        hint="`mt config models` lists it.",
    )
