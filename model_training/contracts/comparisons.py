"""Comparisons: arms over the same items, paired differences, a verdict; the shape of `report.json`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from model_training.contracts.base import Reply, Wire
from model_training.contracts.evaluations import ItemResult, PromptSpec, SuiteSpec
from model_training.contracts.jobs import JobError, JobProgress, JobState


class ArmSpec(Wire):
    """One way to answer. `evaluation` reuses a finished evaluation; otherwise one is run."""

    name: str = Field(examples=["base", "rag", "tuned", "tuned+rag"], min_length=1, max_length=64)
    model: str
    prompt: PromptSpec | None = None
    evaluation: str | None = None


class Prices(Wire):
    """What compute costs, in US dollars. The default is an hour of a two-core cloud machine."""

    machine_hour_usd: float = Field(default=0.10, ge=0)


class ComparisonCreate(Wire):
    """Compare arms on suites, or on free questions (`test_queries`), which are shown side by side."""

    arms: list[ArmSpec] = Field(min_length=1)
    suites: list[SuiteSpec] = []
    test_queries: list[str] = []
    prompt: PromptSpec = PromptSpec()
    prices: Prices = Prices()
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    smallest_useful_difference: float = Field(default=0.05, gt=0, lt=1)
    training_job: str | None = Field(
        default=None, description="Whose time and cost count for the tuned arms."
    )
    dataset: dict[str, Any] | None = Field(
        default=None, description="The data set's report, shown in the report."
    )
    seed: int = 0
    metadata: dict[str, str] = {}


class ArmResult(Reply):
    """One arm's outcome over all items. Rates carry a 95% interval; latencies are in seconds, cost in US dollars."""

    name: str
    model: str
    evaluation: str | None = None
    n: int
    correct: int
    pass_rate: float
    ci_low: float
    ci_high: float
    suites: dict[str, dict[str, float]] = {}
    qa_exact_match: float | None = None
    qa_f1: float | None = None
    qa_bleu: float | None = None
    qa_rouge_l: float | None = None
    qa_chrf: float | None = None
    latency_p50_s: float
    latency_p95_s: float
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    machine_s: float | None = None
    """Seconds of the machine that the answers took; what `cost_usd` is made of."""
    effort: int = 0
    """What the arm takes to run, as a rank: base 0, retrieval 1, tuned 2, both 3."""


class PairResult(Reply):
    """The paired difference `b - a` of one metric over the same items; `a` is the simpler arm."""

    a: str
    b: str
    metric: str
    n: int
    difference: float
    ci_low: float
    ci_high: float
    p: float
    p_adjusted: float
    test: str
    only_a: int | None = None
    """Items that only `a` got right; None for scores."""
    only_b: int | None = None


class Verdict(Reply):
    """What to deploy, how sure that is, and what more evidence would take.

    `items_needed` counts items beyond those used; `items_available` those that the suites still hold.
    """

    recommended: str | None
    confidence: Literal["high", "moderate", "cannot_tell"]
    reason: str
    items_needed: int | None = None
    items_available: int
    notes: list[str] = []


class ComparisonReport(Reply):
    """`report.json`."""

    id: str
    created_at: datetime
    arms: list[ArmResult]
    pairs: list[PairResult]
    verdict: Verdict
    dataset: dict[str, Any] = {}
    training: dict[str, Any] = {}
    model: dict[str, Any] = {}
    prompts: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    rules: dict[str, Any] = {}
    """What the verdict was made by: alpha, smallest useful difference, prices, seed, the primary metric."""


class SideBySide(Reply):
    """One item with every arm's answer."""

    item_id: str
    suite: str
    question: str
    reference: str
    answers: dict[str, ItemResult]


class Comparison(Reply):
    """A comparison. `id` is the id of the job that runs it."""

    id: str
    object: Literal["comparison"] = "comparison"
    state: JobState
    created_at: datetime
    arms: list[ArmSpec]
    report: ComparisonReport | None = None
    progress: JobProgress = JobProgress()
    error: JobError | None = None
