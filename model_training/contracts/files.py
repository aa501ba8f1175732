"""Uploaded files."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from model_training.contracts.base import Reply
from model_training.contracts.problems import RowFault


class FilePurpose(StrEnum):
    """What a file is for; it decides how its rows are checked."""

    FINE_TUNE = "fine-tune"
    """Training rows: `model_training.datasets.rows.TrainingRow`, one JSON object a line."""
    CHUNKS = "chunks"
    """Passages for retrieval: `model_training.contracts.indexes.Chunk`, one JSON object a line."""
    EVALUATION = "evaluation"
    """Items to evaluate on: `model_training.contracts.evaluations.EvaluationItem`, one JSON object a line."""


class FileObject(Reply):
    """A stored file, in OpenAI's shape plus the hash of its content. `created_at` is in Unix seconds."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: FilePurpose
    status: Literal["processed", "error"] = "processed"
    sha256: str


class FileReport(Reply):
    """What the check of a file found. `faults` holds the first hundred; `fault_count` counts all."""

    rows: int
    kinds: dict[str, int] = {}
    characters: int = 0
    duplicates: int = 0
    fault_count: int = 0
    faults: list[RowFault] = []
