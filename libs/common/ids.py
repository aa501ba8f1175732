"""Identifiers: a prefix that names the resource and a ULID, so that ids sort by time."""

from __future__ import annotations

from ulid import ULID

from model_training.contracts.jobs import JobKind

JOB_PREFIX = {
    JobKind.TRAIN: "ftjob",
    JobKind.INDEX: "idx",
    JobKind.EVALUATE: "eval",
    JobKind.COMPARE: "cmp",
    JobKind.PIPELINE: "pipe",
    JobKind.SWEEP: "sweep",
}


def new_id(prefix: str) -> str:
    """A new id such as `file_01k9z…`."""
    return f"{prefix}_{str(ULID()).lower()}"
