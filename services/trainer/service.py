"""What the worker does around the child: ids to paths before, checkpoints during, artifact and model after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from libs.common.artifacts import ArtifactStore, directory_bytes
from libs.common.db.tables import JobRow, ModelRow
from libs.common.errors import InvalidInput, NotFound
from libs.common.files import file_path
from libs.common.ids import new_id
from libs.common.models.store import ModelStore
from model_training.config.catalogue import CatalogueEntry, find_model, unknown_model_hint
from model_training.contracts.files import FilePurpose
from services.trainer import repository
from services.trainer.domain import DataFile, TrainOrder


class Training:
    """Use cases of the trainer. `home` is the platform's data directory."""

    def __init__(self, home: Path, models: ModelStore, artifacts: ArtifactStore) -> None:
        self._home = home
        self._models = models
        self._artifacts = artifacts

    def order(self, session: Session, job: JobRow) -> TrainOrder:
        """What the child needs for a job.

        Raises:
            InvalidInput: the model is unknown, or a file was uploaded for something else.
            NotFound: a file is not there.
            ModelNotPrepared: the base model is not on this machine.
        """
        spec = job.spec
        entry = _entry(spec["model"])
        validation = spec.get("validation_file")
        return TrainOrder(
            model=entry.name,
            model_path=str(self._models.resolve(entry.name)),
            template=entry.template,
            licence=entry.licence,
            training=self._file(session, job, spec["training_file"], "training_file"),
            validation=self._file(session, job, validation, "validation_file") if validation else None,
            config={**spec.get("config", {}), "model_name": entry.name},
            suffix=spec.get("suffix"),
            seed=spec.get("seed") or 0,
        )

    def keep_checkpoint(self, session: Session, job: JobRow, name: str, data: dict[str, Any]) -> None:
        """Record that a checkpoint was committed (`checkpoint`), is gone (`checkpoint_removed`), or which ones a new attempt
        has found (`checkpoints`)."""
        if name == "checkpoint":
            repository.put_checkpoint(session, job, data)
        elif name == "checkpoints":
            repository.keep_only_checkpoints(session, job, [one["step"] for one in data["kept"]])
            for one in data["kept"]:
                repository.put_checkpoint(session, job, one)
        elif name == "checkpoint_removed":
            repository.remove_checkpoint(session, job, data["step"])
        else:
            raise ValueError(f"the trainer's child has no output {name!r}")

    def publish(self, session: Session, job: JobRow, result: dict[str, Any]) -> dict[str, Any]:
        """Store the adapter and publish the model; returns the job's result.

        The model is `pending` until a server has compared itself with the fingerprint. A whole model is no adapter to serve
        on a base: it is `refused` and says how it becomes a base of its own.
        """
        directory = Path(result["directory"])
        whole = result["lineage"].get("method") == "full"
        artifact = self._artifacts.commit(directory)
        path = self._artifacts.path(artifact)
        kind = "model" if whole else "adapter"
        repository.add_artifact(session, job, artifact, directory_bytes(directory), kind)
        model = ModelRow(
            id=new_id("model"),
            base=result["lineage"]["base"],
            artifact=artifact,
            state="refused" if whole else "pending",
            gate={"passed": False, "code": "whole_model", "reason": _how_to_serve(path)} if whole else None,
            metrics=result["metrics"],
            lineage=result["lineage"],
        )
        repository.add_model(session, job, model)
        kept = {name: value for name, value in result.items() if name not in ("directory", "lineage")}
        return {"model_id": model.id, "artifact": artifact, **kept}

    def _file(self, session: Session, job: JobRow, file_id: str, param: str) -> DataFile:
        row = repository.find_file(session, job.project_id, file_id)
        path = file_path(self._home, row.sha256) if row else None
        if row is None or path is None or not path.is_file():
            raise NotFound(
                f"There is no file {file_id!r}.",
                param=param,
                hint="Upload it with purpose `fine-tune` first.",
            )
        if row.purpose != FilePurpose.FINE_TUNE:
            raise InvalidInput(
                f"The file {file_id!r} was uploaded with purpose {row.purpose!r}; training needs `fine-tune`.",
                param=param,
            )
        return DataFile(id=row.id, name=row.filename, path=str(path), sha256=row.sha256)


def _how_to_serve(path: Path) -> str:
    return f"it is a whole model, not an adapter; make it a base of its own: mt models prepare {path} --name NAME"


def _entry(model: str) -> CatalogueEntry:
    entry = find_model(model)
    if entry is None:
        raise InvalidInput(
            f"There is no model {model!r} in the catalogue.", param="model", hint=unknown_model_hint(model)
        )
    return entry
