"""What the trainer's child is ordered to do. Plain records: no torch, no database, no file is read here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class DataFile:
    """A file of rows: its id, the name it was uploaded under, where it lies, and the hash of its content."""

    id: str
    name: str
    path: str
    sha256: str


@dataclass(frozen=True)
class TrainOrder:
    """Everything that the child needs. `model_path` is the prepared base; `config` is a `TrainingConfig` as a dict."""

    model: str
    model_path: str
    template: str
    licence: str
    training: DataFile
    validation: DataFile | None
    config: dict[str, Any]
    suffix: str | None
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """As it goes over the pipe."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainOrder:
        """The inverse of `to_dict`."""
        validation = DataFile(**data["validation"]) if data["validation"] else None
        return cls(**{**data, "training": DataFile(**data["training"]), "validation": validation})
