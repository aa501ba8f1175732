"""Models: which there are, whether a name means one of them, and bringing in an adapter from outside."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy.orm import Session

from libs.common.artifacts import ArtifactStore, directory_bytes
from libs.common.db.tables import ArtifactRow, ModelRow
from libs.common.errors import Conflict, InvalidInput, NotFound
from libs.common.ids import new_id
from model_training.config.catalogue import CATALOGUE, CatalogueEntry
from model_training.contracts.base import Deleted, Page
from model_training.contracts.models import CHAMPION, ModelObject
from services.gateway import repository
from services.gateway.domain import ModelName, Principal, parse_model_name
from services.gateway.service import endpoints, idempotency
from services.gateway.service.files import refuse_path

IMPORTABLE = (".json", ".safetensors", ".md", ".png", ".svg")
MAX_CONFIG_BYTES = 1 << 20
MAX_HEADER_BYTES = 100_000_000
"""What the safetensors library itself takes."""


@dataclass(frozen=True)
class Upload:
    """One file of an imported adapter."""

    name: str
    stream: BinaryIO


def require(session: Session, principal: Principal, name: str, param: str = "model") -> ModelName:
    """Take a model's name apart and check that each part exists. `champion` becomes what it points to.

    Raises:
        InvalidInput: the name has no sense.
        NotFound: there is no such base, tuned model or index.
    """
    try:
        parsed = parse_model_name(name)
        if parsed.model == CHAMPION:
            parsed = _behind(parsed, _champion(session, principal, param))
    except ValueError as error:
        raise InvalidInput(f"{error}.", param=param) from error
    if parsed.external is not None:
        if parsed.index is not None:
            raise InvalidInput("Endpoints of others answer without our indexes.", param=param)
        endpoints.require(session, principal, parsed.external, param)
    elif parsed.is_tuned:
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


def base_alone(name: str) -> ModelName | None:
    """A base of the catalogue without an index, which needs no look at the database; else None."""
    return ModelName(name) if name in CATALOGUE else None


def _champion(session: Session, principal: Principal, param: str) -> ModelName:
    name = repository.model_of_alias(session, principal.project_id, CHAMPION)
    if name is None:
        raise NotFound(
            "No model is the champion yet.", param=param, hint="POST /v1/models/{model}/promote makes one."
        )
    return parse_model_name(name)


def _behind(asked: ModelName, champion: ModelName) -> ModelName:
    if asked.index is not None and champion.index is not None:
        raise ValueError(f"the champion already answers from index {champion.index!r}; name it without one")
    return ModelName(champion.model, asked.index or champion.index)


def list_models(
    session: Session, principal: Principal, model_dir: Path, after: str | None, limit: int
) -> Page[ModelObject]:
    """Every tuned model, newest first, and after the last of them the bases that are on this machine."""
    rows, more = repository.page(session, ModelRow, principal.project_id, after=after, limit=limit)
    data = [describe(row) for row in rows]
    if not more:
        data += [base for name in CATALOGUE if (base := _base(name, model_dir))]
    aliases = _aliases(session, principal)
    return Page.of([model.model_copy(update={"aliases": aliases.get(model.id, [])}) for model in data], more)


def _aliases(session: Session, principal: Principal) -> dict[str, list[str]]:
    champion = repository.model_of_alias(session, principal.project_id, CHAMPION)
    return {parse_model_name(champion).model: [CHAMPION]} if champion else {}


def get(session: Session, principal: Principal, model_dir: Path, name: str) -> ModelObject:
    """One model; `champion` stands for the one that it points to.

    Raises:
        NotFound: there is none of that name.
    """
    if name == CHAMPION:
        name = _champion(session, principal, "model").model
    row = repository.get(session, ModelRow, principal.project_id, name)
    found = describe(row) if row is not None else (_base(name, model_dir) if name in CATALOGUE else None)
    if found is None:
        raise NotFound(
            f"There is no model {name!r} here.", param="model", hint="`mt models list` shows them."
        )
    return found.model_copy(update={"aliases": _aliases(session, principal).get(found.id, [])})


def delete(session: Session, principal: Principal, name: str) -> Deleted:
    """Forget a tuned model. What was measured with it stays; its adapter stays in the store.

    Raises:
        NotFound: there is none of that id.
        Conflict: it is a base, the champion, or an unfinished job needs it.
    """
    if name in CATALOGUE:
        raise Conflict(f"{name} is a base and stays.", param="model", hint="Only tuned models are deleted.")
    row = repository.get(session, ModelRow, principal.project_id, name)
    if row is None:
        raise NotFound(f"There is no model {name!r}.", param="model", hint="`mt models list` shows them.")
    if name in _aliases(session, principal):
        raise Conflict(
            f"Model {name} is the champion.", param="model", hint="Promote another one, or roll back, first."
        )
    job = repository.job_using(session, principal.project_id, name)
    if job is not None:
        raise Conflict(
            f"Model {name} is in use by job {job}.", param="model", hint="Cancel the job or wait for it."
        )
    session.delete(row)
    return Deleted(id=name, object="model")


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
    session: Session,
    principal: Principal,
    artifacts: ArtifactStore,
    uploads: Sequence[Upload],
    key: str | None = None,
) -> dict[str, Any]:
    """Store the files of a LoRA adapter as an artifact and make a model of it; the same files are the same model.

    Raises:
        InvalidInput: a file is missing or of a kind that is not taken (pickles never are), or the base is unknown.
    """
    with tempfile.TemporaryDirectory(prefix="import-") as name:
        directory = Path(name)
        for upload in uploads:
            _save(upload, directory)
        base = _base_of(directory)
        for weights in directory.glob("*.safetensors"):
            _require_safetensors(weights)
        artifact = artifacts.commit(directory)
        size = directory_bytes(directory)
    create = partial(_add, session, principal, base, artifact, size)
    return idempotency.once(session, principal, key, "/v1/models/import", {"artifact": artifact}, create)


def _add(
    session: Session, principal: Principal, base: CatalogueEntry, artifact: str, size: int
) -> ModelObject:
    known = repository.model_of_artifact(session, principal.project_id, artifact)
    if known is not None:
        return describe(known)
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
    name = upload.name
    refuse_path(name, "files")
    if Path(name).suffix not in IMPORTABLE:
        raise InvalidInput(
            f"{name!r} is not taken.", param="files", hint=f"Files may end in {', '.join(IMPORTABLE)}."
        )
    with (directory / name).open("wb") as out:
        shutil.copyfileobj(upload.stream, out)


def _require_safetensors(path: Path) -> None:
    """Look at the header only: what is called safetensors must be, and may claim no more than is there.

    Raises:
        InvalidInput: it is something else, such as a pickle or an archive under that name.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= min(size - 8, MAX_HEADER_BYTES) else b""
    try:
        tensors: dict[str, Any] = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
        is_sound = header.startswith(b"{") and max(ends, default=0) == size - 8 - length
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        is_sound = False
    if not is_sound:
        raise InvalidInput(
            f"{path.name} is not a file of safetensors.",
            param="files",
            hint="Save the adapter again with safe_serialization=True.",
        )


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
    config = directory / "adapter_config.json"
    if config.stat().st_size > MAX_CONFIG_BYTES:
        raise InvalidInput(
            f"adapter_config.json has {config.stat().st_size} bytes; {MAX_CONFIG_BYTES} are allowed.",
            param="files",
        )
    try:
        named = json.loads(config.read_text("utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidInput("adapter_config.json names no base model.", param="files") from error
    for entry in CATALOGUE.values():
        if named in (entry.name, entry.hub_id):
            return entry
    raise InvalidInput(
        f"The adapter's base {named!r} is not in the catalogue.",
        param="files",
        hint="`mt config models` lists it.",
    )
