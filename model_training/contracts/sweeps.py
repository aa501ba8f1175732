"""Sweeps: fine-tuning jobs over a grid or random draws of settings, as one resource that stops losers early.

A trial is one choice of settings. Every trial runs with the first seed; the best `finalists` then run with the other seeds
too, so that the winner is reported with its spread. `model_training.contracts.sweep_search` makes trials of a search.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from model_training.contracts.base import WHOLE, Flag, Metadata, Name, Number, Reference, Reply, Seed, Wire
from model_training.contracts.jobs import JobError, JobProgress, JobState

MAX_FIELDS = 16
MAX_VALUES = 100
MAX_TRIALS = 100
MAX_SEEDS = 10
MAX_JOBS = 200
"""Jobs of one sweep, those of the finalists' further seeds included."""

Metric = Literal["eval_loss"]
"""What is compared; lower is better."""

SettingName = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_]*$", examples=["learning_rate"])
]


End = Annotated[Number, Field(ge=-1e9, le=1e9)]


class SearchRange(Wire):
    """Values between two ends, drawn at random; both ends can be drawn."""

    low: End = Field(description="The lowest value.", examples=[0.0001])
    high: End = Field(description="The highest value.", examples=[0.001])
    log: Flag = Field(
        default=False,
        description="Draw evenly by magnitude, as learning rates want it: as many values below 0.001 as above when the ends "
        "are 0.0001 and 0.01. `low` must be above 0.",
    )
    integer: Flag = Field(default=False, description="Draw whole numbers; both ends must be whole.")


class EarlyStop(Wire):
    """When a trial is stopped before its end. It keeps its checkpoints."""

    rule: Literal["successive_halving", "none"] = Field(
        default="successive_halving",
        description="`successive_halving` looks at each trial at certain shares of its training (rungs) and stops those "
        "whose loss is not among the best `1/reduction` of all that came as far. `none` lets every trial run to its end.",
    )
    warmup: Annotated[Number, Field(ge=0.05, le=0.95)] = Field(
        default=0.25,
        description="Share of a trial's training before the first look; the next ones are at `reduction` times the share "
        "before.",
    )
    reduction: Annotated[int, Field(ge=2, le=10), WHOLE] = Field(
        default=2, description="One in so many goes on past each look; at least one always does."
    )


EXAMPLE: dict[str, Any] = {
    "name": "learning rate and rank",
    "model": "gemma-3-270m",
    "training_file": "file_01jabc",
    "config": {"epochs": 2, "eval_steps": 5},
    "search": {"learning_rate": [0.0001, 0.0003, 0.001], "lora_r": [8, 16]},
    "seeds": [0, 1, 2],
    "finalists": 2,
}

RANDOM_EXAMPLE: dict[str, Any] = {
    **EXAMPLE,
    "name": "learning rate by chance",
    "search": {
        "learning_rate": {"low": 0.00003, "high": 0.003, "log": True},
        "lora_r": {"low": 4, "high": 64, "log": True, "integer": True},
        "lr_scheduler": ["cosine", "linear"],
    },
    "trials": 12,
    "seed": 0,
}


class SweepCreate(Wire):
    """Which settings to try, on what, and how the best is found.

    All trials are checked as fine-tuning jobs before anything is stored.
    """

    name: Name | None = Field(default=None, examples=["learning rate and rank"])
    model: Reference = Field(description="The base model of every trial.", examples=["gemma-3-270m"])
    training_file: Reference = Field(examples=["file_01jabc"])
    validation_file: Reference | None = Field(
        default=None,
        description="Rows that `eval_loss` is measured on. Without it each job holds out a share of its training rows, "
        "chosen by its seed, and the spread over seeds holds the spread over those choices too.",
    )
    config: dict[str, Any] = Field(
        default={},
        max_length=100,
        description="Training settings that are the same in all trials, as `training` of a fine-tuning job.",
        examples=[EXAMPLE["config"]],
    )
    search: dict[
        SettingName,
        Annotated[list[Any], Field(min_length=1, max_length=MAX_VALUES)] | SearchRange,
    ] = Field(
        min_length=1,
        max_length=MAX_FIELDS,
        description="Training settings that differ: a list of values, or a range to draw from. Lists without `trials` are a "
        "grid: every combination is a trial.",
        examples=[EXAMPLE["search"]],
    )
    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS), WHOLE] | None = Field(
        default=None, description="Draw so many different trials at random, instead of all of a grid."
    )
    seed: Seed = Field(default=0, description="Decides what is drawn at random.")
    seeds: list[Seed] = Field(
        default=[0],
        min_length=1,
        max_length=MAX_SEEDS,
        description="Seeds of the training jobs. Every trial runs with the first; the finalists run with all.",
        examples=[EXAMPLE["seeds"]],
    )
    finalists: Annotated[int, Field(ge=1, le=MAX_TRIALS), WHOLE] = Field(
        default=2, description="How many of the best trials run with the other seeds as well."
    )
    max_parallel: Annotated[int, Field(ge=1, le=32), WHOLE] = Field(
        default=2, description="Jobs of the sweep that wait or run at the same time."
    )
    metric: Metric = Field(default="eval_loss", description="What is compared; lower is better.")
    early_stop: EarlyStop = EarlyStop()
    metadata: Metadata = {}


class RunState(StrEnum):
    """Where a trial stands, or one of its runs."""

    WAITING = "waiting"
    """Its job is not created yet."""
    RUNNING = "running"
    """Its job is queued, runs, or is paused."""
    SUCCEEDED = "succeeded"
    """Its job ran to its end and has a loss."""
    STOPPED = "stopped"
    """The sweep stopped it, because others were better; `reason` says at which point and by what."""
    FAILED = "failed"
    """Its job failed or could not be created; `error` says why. The others go on."""
    CANCELLED = "cancelled"
    """Its job was cancelled, alone or with the sweep."""
    SKIPPED = "skipped"
    """The sweep ended before it could start."""


class SweepRun(Reply):
    """A trial with one seed: one fine-tuning job. `eval_loss` is the lowest so far; `step` is the newest evaluation's."""

    seed: int
    state: RunState
    job_id: str | None = None
    job_state: JobState | None = None
    progress: JobProgress = JobProgress()
    eval_loss: float | None = None
    step: int | None = None
    fine_tuned_model: str | None = None
    reason: str | None = None
    error: JobError | None = None


class SweepTrial(Reply):
    """One choice of settings and what became of it.

    `eval_loss` is the mean over the seeds that ran to their end, `std` their standard deviation (n - 1; None of one seed).
    Before a run has ended it is its lowest loss so far. `rank` counts from 1; a trial without a loss has none.
    """

    number: int
    settings: dict[str, Any]
    state: RunState
    finalist: bool = False
    rank: int | None = None
    eval_loss: float | None = None
    std: float | None = None
    seeds_done: int = 0
    reason: str | None = None
    error: JobError | None = None
    runs: list[SweepRun] = []


class SweepBest(Reply):
    """The best trial. `margin` is how much higher the mean of the next finalist is, None where there is none.

    `clear` says whether that margin is larger than the spread of both over their seeds (the root of the sum of their
    variances); None where a spread is not known.
    """

    trial: int
    settings: dict[str, Any]
    eval_loss: float
    std: float | None = None
    losses: dict[str, float] = {}
    """By seed."""
    margin: float | None = None
    clear: bool | None = None
    job_id: str | None = None
    """Of the seed with the lowest loss."""
    fine_tuned_model: str | None = None


class Sweep(Reply):
    """A sweep. `id` is also the id of its job: `/v1/jobs/{id}` has its events, and pauses and resumes it."""

    id: str
    object: Literal["sweep"] = "sweep"
    name: str | None = None
    state: JobState
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    model: str
    training_file: str
    validation_file: str | None = None
    config: dict[str, Any] = {}
    search: dict[str, Any] = {}
    seeds: list[int] = []
    finalists: int = 1
    max_parallel: int = 1
    metric: Metric = "eval_loss"
    early_stop: EarlyStop = EarlyStop()
    trials: list[SweepTrial] = []
    """By number. `rank` says which are best."""
    best: SweepBest | None = None
    progress: JobProgress = JobProgress()
    error: JobError | None = None
    metadata: dict[str, str] = {}
