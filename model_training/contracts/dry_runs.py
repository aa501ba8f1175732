"""What a fine-tuning job would do, take and be refused for, without creating it."""

from __future__ import annotations

from typing import Any, Literal

from model_training.contracts.base import Reply
from model_training.contracts.fine_tuning import EffectiveSetting


class Estimate(Reply):
    """A figure, the range it will probably fall into, and what it stands on."""

    expected: float
    low: float
    high: float
    basis: str


class DataFigures(Reply):
    """The rows that would be trained on. `tokens` are those of one pass over the training rows."""

    rows: int
    train_rows: int
    validation_rows: int
    tokens: int
    tokens_basis: str
    rows_per_step: int
    steps: int


class Refusal(Reply):
    """One reason why the job would not run. `param` is a field of the request."""

    code: str
    message: str
    param: str | None = None
    hint: str | None = None


class DryRun(Reply):
    """The answer to `dry_run=true`: every refusal at once, and what the job would be.

    `config` and the figures are None where a refusal leaves nothing to say; a setting that breaks a rule is replaced by its
    default for them. Memory is in bytes, time in seconds without waiting in the queue, cost in US dollars.
    """

    object: Literal["fine_tuning.job.dry_run"] = "fine_tuning.job.dry_run"
    model: str
    accepted: bool
    refusals: list[Refusal] = []
    warnings: list[str] = []
    config: dict[str, Any] | None = None
    effective: list[EffectiveSetting] = []
    data: DataFigures | None = None
    memory_bytes: Estimate | None = None
    time_s: Estimate | None = None
    cost_usd: Estimate | None = None
